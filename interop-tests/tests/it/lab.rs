//! The network lab: its networks are what they say, the path of each pair is the one that the
//! rule says, liars are caught, and the machine's own network stays as it is.

use std::process::{Command, Output};
use std::time::Duration;

use suora_interop::lab::namespace;

use crate::program;

/// A lab's own word among the environment of its processes.
const MARK: &str = "SUORA_LAB_TEST";

/// Whether namespaces can be made here; says what does not run where they cannot.
fn possible(what: &str) -> bool {
    match namespace::possible() {
        Ok(_) => true,
        Err(why) => {
            eprintln!("did not run: {what}: no network lab here: {why}");
            false
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("lab").args(arguments);
    command
}

async fn lab(arguments: &[&str]) -> (Output, String) {
    let mut command = command(arguments);
    let ran = tokio::task::spawn_blocking(move || command.output());
    let output = ran.await.unwrap().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said)
}

/// All that a lab could have changed of the machine.
fn machine() -> Vec<String> {
    let listed = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        // one that this machine has not says nothing both times
        output.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    vec![
        listed("ip", &["-o", "addr"]),
        listed("ip", &["route", "show", "table", "all"]),
        listed("ip", &["-6", "rule"]),
        listed("ip", &["rule"]),
        listed("ip", &["netns"]),
        listed("/usr/sbin/nft", &["list", "ruleset"]),
        listed("findmnt", &["-n", "-o", "TARGET", "/run"]),
    ]
    .into_iter()
    // what is left of an address's time is no change
    .map(|text| {
        let words = text
            .split_whitespace()
            .filter(|word| !word.ends_with("sec"));
        words.collect::<Vec<_>>().join(" ")
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_network_is_what_it_says_and_every_pair_gets_its_path() {
    let _alone = crate::alone().await;
    if !possible("every kind of network, and pairs across them") {
        return;
    }
    let before = machine();
    let (output, said) = lab(&["--short"]).await;
    assert!(output.status.success(), "{said}");
    for seen in [" direct ", " host ", " relayed "] {
        assert!(said.contains(seen), "nothing{seen}in {said}");
    }
    assert_eq!(machine(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_not_what_it_says_is_caught() {
    let _alone = crate::alone().await;
    if !possible("networks that lie") {
        return;
    }
    let claims = [
        "full-cone=addr-restricted",
        "symmetric=port-restricted",
        "mtu-1280=port-restricted",
        "carrier-flat=carrier",
    ];
    let claimed = claims.iter().flat_map(|claim| ["--claim", claim]);
    let arguments: Vec<_> = claimed.chain(["public:public"]).collect();
    let (output, said) = lab(&arguments).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    // each of them by one thing, and nobody else
    assert_eq!(said.matches("WRONG").count(), claims.len(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_says_direct_and_goes_through_the_relay_is_caught() {
    let _alone = crate::alone().await;
    if !possible("pairs that lie") {
        return;
    }
    let (output, said) = lab(&["--lies", "full-cone:public"]).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("media at the relay in the last second"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_does_what_a_fault_says() {
    let _alone = crate::alone().await;
    if !possible("faults of networks") {
        return;
    }
    let (output, said) = lab(&["--faults"]).await;
    assert!(output.status.success(), "{said}");
}

/// Processes whose environment has this mark.
fn marked(mark: &str) -> usize {
    let mark = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .filter(|environment| {
            let mut words = environment.split(|byte| *byte == 0);
            words.any(|word| word == mark.as_bytes())
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_lab_leaves_nothing() {
    let _alone = crate::alone().await;
    if !possible("the end of a killed lab") {
        return;
    }
    let before = machine();
    let mark = std::process::id().to_string();
    let mut running = command(&["--short"])
        .env(MARK, &mark)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = running.stdout.take().unwrap();
    // it has built its namespaces when it says so
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut first).unwrap();
    assert!(first.contains("sites"), "{first}");
    assert!(marked(&mark) > 0);
    running.kill().unwrap();
    running.wait().unwrap();
    let gone = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while marked(&mark) > 0 {
            beat.tick().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
    assert!(gone.is_ok(), "{} processes stay", marked(&mark));
    assert_eq!(machine(), before);
}
