//! `kill -9` of a process that writes tickets and credentials, at two hundred random moments, and
//! of a whole relay, at twenty: each of these costs a start of the relay.

use std::process::Stdio;
use std::time::Duration;

use suora_interop::durable::{self, Citizen, Commits};
use suora_interop::peer::Agency;
use suora_interop::rig::STEP;
use suora_protocol::documents::TicketId;
use suora_protocol::identity::Draw;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::store::Store;
use suora_relay::store::sqlite::Sqlite;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::program;

const SEEDS: u64 = 200;
/// How often a relay is killed.
const ROUNDS: u8 = 20;
/// How many join meanwhile: few enough that the relay asks nobody for work.
const JOINING: u64 = 8;

// covers: SUORA-DSK-009, SUORA-DSK-101, SUORA-DSK-123
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_killed_at_any_moment_loses_nothing_that_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let (mut said_in_all, mut beyond) = (0, 0);
    for seed in 0..SEEDS {
        let file = dir.path().join(format!("{seed}.db"));
        let mut draw = Draw::from_seed([u8::try_from(seed).unwrap(); 32]);
        // in its first moments, while the file is made, or in the midst of its work
        let after = Duration::from_micros(draw.below(30_000));
        let commits = draw.below(20);
        let mut child = Command::new(program())
            .args(["write-store", &seed.to_string()])
            .arg(&file)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        while said < commits {
            match lines.next_line().await.unwrap() {
                Some(line) => said = line.parse().unwrap(),
                None => panic!("seed {seed}: it ended by itself"),
            }
        }
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                said = line.parse().unwrap();
            }
        };
        let ended = tokio::time::timeout(after, reading).await;
        assert!(ended.is_err(), "seed {seed}: it ended by itself");
        child.kill().await.unwrap();
        // what it had said before it died and nobody had read
        while let Ok(Some(line)) = lines.next_line().await {
            said = line.parse().unwrap_or(said);
        }
        let found = durable::check(&file, seed, said).await.unwrap();
        said_in_all += said;
        beyond += found - said;
    }
    assert!(said_in_all > 8 * SEEDS, "{said_in_all} commits");
    eprintln!(
        "{SEEDS} kills: {said_in_all} commits were said to stand and do, {beyond} more stand"
    );
}

// covers: SUORA-DSK-009
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_as_it_says_queued_has_every_ticket_that_it_told_of() {
    let agency = Agency::new(program()).await.unwrap();
    let page = agency.page().unwrap();
    let mut told: Vec<(Citizen, TicketId)> = Vec::new();
    let mut told_in_all = 0;
    for round in 0..=ROUNDS {
        let mut relay = agency.serve(&[]).await.unwrap();
        // those of the round before come back; a lost ticket would be another one
        for (mut citizen, ticket) in told.drain(..) {
            let again = tokio::time::timeout(STEP, citizen.again()).await;
            assert_eq!(again.unwrap().unwrap(), ticket, "round {round}");
            told_in_all += 1;
        }
        if round == ROUNDS {
            break;
        }
        let mut draw = Draw::from_seed([round; 32]);
        // the first of them is told, or half of them are, or all, when it is killed
        let enough = usize::try_from(1 + draw.below(JOINING)).unwrap();
        let mut joining = JoinSet::new();
        for _ in 0..JOINING {
            let mut citizen = Citizen::dial(&page, &mut draw).await.unwrap();
            joining.spawn(async move {
                let joined = tokio::time::timeout(STEP, citizen.join()).await;
                let ticket = joined.unwrap().unwrap();
                ticket.map(|ticket| (citizen, ticket))
            });
        }
        while told.len() < enough
            && let Some(joined) = joining.join_next().await
        {
            told.extend(joined.unwrap());
        }
        relay.kill().await.unwrap();
        // what it had said before it died
        while let Some(joined) = joining.join_next().await {
            told.extend(joined.unwrap());
        }
    }
    assert!(told_in_all > usize::from(ROUNDS), "{told_in_all}");
    eprintln!("{ROUNDS} kills of a relay: {told_in_all} tickets were told and are there");
}

#[tokio::test]
async fn a_lost_or_a_torn_commit_would_be_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["lost", "torn", "unenrolled"] {
        let file = dir.path().join(format!("{name}.db"));
        let mut store = Sqlite::open(&file).await.unwrap();
        let mut commits: Vec<Vec<Change>> = Commits::new(1).take(10).collect();
        match name {
            "lost" => commits.truncate(7),
            "torn" => {
                let torn = commits.iter_mut().rev().find(|commit| commit.len() > 2);
                torn.unwrap().truncate(1);
            }
            // one credential that should be there
            _ => {
                let mut all = Snapshot::default();
                commits.iter().for_each(|changes| all.apply(changes));
                let peer = all.enrolled[0].peer;
                let is_its =
                    |change: &Change| matches!(change, Change::Enrol(it) if it.peer == peer);
                commits
                    .iter_mut()
                    .for_each(|changes| changes.retain(|change| !is_its(change)));
            }
        }
        for changes in &commits {
            store.commit(changes).await.unwrap();
        }
        store.close().await.unwrap();
        assert!(durable::check(&file, 1, 10).await.is_err(), "{name}");
    }
}
