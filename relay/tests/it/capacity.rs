//! A disk that becomes full under a running relay: it stops with an error that says what to do,
//! and once there is room it has everybody whom it told of a place.

use std::process::Stdio;

use suora_protocol::documents::TicketId;
use suora_protocol::wire::citizen::{self, FromRelay};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::agency::key;
use crate::rig::{self, Agency, By, Node, PATIENCE, PROGRAM};

/// Serves from a small disk that only this shell sees, and again once there is room on it.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=600k tmpfs "$2"
cp -a "$1/." "$2"
dd if=/dev/zero of="$2/filler" bs=1k count=250 status=none
status=0
"$3" serve "$2" 2>"$1/first.log" || status=$?
echo "ended $status"
rm "$2/filler"
exec "$3" serve "$2"
"#;

/// The shell, which ends with this, and what it says.
struct Disk {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Disk {
    fn start(agency: &Agency) -> Self {
        let mount = agency.path("disk");
        std::fs::create_dir(&mount).unwrap();
        let mut child = Command::new("unshare")
            .args(["--mount", "--pid", "--map-root-user", "--kill-child"])
            .args(["sh", "-euc", SCRIPT, "sh"])
            .arg(agency.path("relay"))
            .arg(&mount)
            .arg(PROGRAM)
            .env_remove("SSLKEYLOGFILE")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            lines,
        }
    }

    async fn says(&mut self, begins: &str) {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap_or_default();
        assert!(line.starts_with(begins), "{begins}: {line:?}");
    }
}

/// Joins; the ticket and the place, if the relay told of one.
async fn joins(agency: &Agency, number: u8) -> Option<(Node, rig::Link, TicketId, u32)> {
    let mut node = Node::try_connect(agency, &key(number), By::Tcp).await?;
    let mut link = node.open(citizen::PROTOCOL).await?;
    link.say(&rig::join("tax")).await;
    match link.hear().await? {
        FromRelay::Queued { ticket, position } => Some((node, link, ticket, position)),
        other => panic!("not queued: {other:?}"),
    }
}

// covers: SUORA-DSK-123
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_relay_with_advice_and_costs_nobody_the_place() {
    let agency = Agency::new();
    let mut disk = Disk::start(&agency);
    disk.says("ready").await;
    let mut told = Vec::new();
    let mut held = Vec::new();
    for number in 0..30 {
        let Some((node, link, ticket, position)) = joins(&agency, number).await else {
            break;
        };
        assert_eq!(usize::from(number), position as usize);
        told.push(ticket);
        held.push((node, link));
    }
    // where thirty places fit, each comes again and again under another challenge
    let mut challenge = 0_u8;
    while let Some((_, link)) = held.first_mut() {
        challenge = challenge.wrapping_add(1);
        let again = citizen::ToRelay::Join {
            desk: crate::agency::desk("tax"),
            challenge: suora_protocol::documents::Challenge::from_bytes([challenge; 16]),
            ticket: None,
            work: None,
        };
        link.say(&again).await;
        if link.hear::<FromRelay>().await.is_none() {
            break;
        }
    }
    held.clear();
    disk.says("ended 1").await;
    let log = std::fs::read_to_string(agency.path("relay/first.log")).unwrap();
    assert!(log.contains("the disk is full: make room"), "{log}");
    disk.says("ready").await;
    assert!(told.len() > 5, "{} were told of a place", told.len());
    for (number, ticket) in (0..).zip(&told) {
        let (.., found, position) = joins(&agency, number).await.unwrap();
        assert_eq!((found, position), (*ticket, u32::from(number)));
    }
}
