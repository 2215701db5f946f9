//! `kill -9` of a process that writes tickets and credentials, at two hundred random moments.

use std::process::Stdio;
use std::time::Duration;

use suora_interop::durable::{self, Commits};
use suora_protocol::identity::Draw;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::store::Store;
use suora_relay::store::sqlite::Sqlite;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::program;

const SEEDS: u64 = 200;

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
    assert!(said_in_all > 10 * SEEDS, "{said_in_all} commits");
    eprintln!(
        "{SEEDS} kills: {said_in_all} commits were said to stand and do, {beyond} more stand"
    );
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
