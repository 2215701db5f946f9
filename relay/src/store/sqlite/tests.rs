//! What stands in the file, what is found wrong with one, and what is forgotten.

use std::collections::BTreeMap;

use super::*;

fn row(order: u64) -> Row {
    Row {
        ticket: TicketId::from_bytes([u8::try_from(order).unwrap(); 16]),
        desk: DeskId::new("tax").unwrap(),
        guest: PeerId::from_bytes([7; 32]),
        challenge: Challenge::from_bytes([8; 16]),
        order,
        joined: Timestamp::from_micros(1_795_525_200_000_001),
        attempt: 2,
        officer: (order == 2).then(|| PeerId::from_bytes([9; 32])),
    }
}

fn enrolled(peer: u8, signed: i64) -> Enrolled {
    Enrolled {
        peer: PeerId::from_bytes([peer; 32]),
        credential: vec![peer; 300].into(),
        issued_at: Timestamp::from_secs(signed),
        not_after: Timestamp::from_secs(signed + 600),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let changes = [
        Change::Put(row(3)),
        Change::Put(row(1)),
        Change::Put(row(2)),
        Change::Put(Row {
            attempt: 5,
            ..row(1)
        }),
        Change::Drop(row(3).ticket),
        Change::Enrol(enrolled(5, 1_000)),
        Change::Enrol(enrolled(4, 1_000)),
        Change::Enrol(enrolled(6, 1_000)),
        Change::Enrol(enrolled(5, 2_000)),
        Change::Expel(enrolled(6, 0).peer),
    ];
    let mut reference = Snapshot::default();
    reference.apply(&changes);
    Sqlite::open(&path)
        .await
        .unwrap()
        .commit(&changes)
        .await
        .unwrap();
    assert_eq!(
        Sqlite::open(&path).await.unwrap().load().await,
        Ok(reference)
    );
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    std::fs::write(&path, [0x55; 5_000]).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert_eq!(error.code, Code::BadFile);
    assert!(error.to_string().contains("restore a copy"), "{error}");
}

/// A file in which some hundred people wait, closed in order.
async fn filled(dir: &Path) -> (std::path::PathBuf, Snapshot) {
    let path = dir.join("relay.db");
    let changes: Vec<Change> = (1..=200).map(|order| Change::Put(row(order))).collect();
    let mut reference = Snapshot::default();
    reference.apply(&changes);
    let mut store = Sqlite::open(&path).await.unwrap();
    store.commit(&changes).await.unwrap();
    store.close().await.unwrap();
    (path, reference)
}

// covers: SUORA-DSK-123
#[tokio::test]
async fn overwritten_bytes_are_a_clear_error_or_change_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reference) = filled(dir.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let mut draw = suora_protocol::identity::Draw::from_seed([3; 32]);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let length = bytes.len() as u64;
        let at = usize::try_from(draw.below(length)).unwrap();
        let many = usize::try_from(1 + draw.below(600)).unwrap();
        let end = bytes.len().min(at + many);
        for byte in &mut bytes[at..end] {
            *byte = draw.bytes::<1>()[0];
        }
        std::fs::write(&path, &bytes).unwrap();
        let loaded = match Sqlite::open(&path).await {
            Ok(mut store) => store.load().await,
            Err(fault) => Err(fault),
        };
        match loaded {
            Err(fault) => {
                refused += 1;
                assert_eq!(fault.code, Code::BadFile);
                assert!(fault.to_string().contains("store"), "{fault}");
            }
            // bytes within a row: nobody else's place is another
            Ok(found) => {
                read += 1;
                let same = found.rows.iter().filter(|row| reference.rows.contains(row));
                assert!(same.count() + 12 >= reference.rows.len());
            }
        }
        for left in ["relay.db-wal", "relay.db-shm"] {
            let _ = std::fs::remove_file(dir.path().join(left));
        }
    }
    assert!(refused > 50 && read > 5, "{refused} refused, {read} read");
}

// covers: SUORA-DSK-123
#[tokio::test]
async fn an_older_file_is_brought_up_and_a_newer_one_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reference) = filled(dir.path()).await;
    let later = || {
        let mut all = migrations();
        let next = i64::try_from(all.len()).unwrap() + 1;
        all.push(Migration::new(
            next,
            "notes".into(),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str("CREATE TABLE note (text TEXT NOT NULL) STRICT;"),
            false,
        ));
        all
    };
    // the relay of tomorrow opens today's file, and finds everybody
    let mut store = Sqlite::open_with(&path, later()).await.unwrap();
    assert_eq!(store.load().await, Ok(reference.clone()));
    store.close().await.unwrap();
    let before = files(dir.path());
    // the relay of today does not touch tomorrow's
    let error = Sqlite::open(&path).await.unwrap_err();
    assert_eq!(error.code, Code::BadFile);
    assert!(error.to_string().contains("a newer relay"), "{error}");
    assert!(files(dir.path()) == before, "it was touched");
    let mut store = Sqlite::open_with(&path, later()).await.unwrap();
    assert_eq!(store.load().await, Ok(reference));
    // nor one that was killed, whose journal lies beside it
    let killed = tempfile::tempdir().unwrap();
    let begun = killed.path().join("begun.db");
    let mut tomorrow = Sqlite::open_with(&begun, later()).await.unwrap();
    tomorrow.commit(&[Change::Put(row(1))]).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(killed.path()) {
        if !name.ends_with("-shm") {
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    let before = files(copy.path());
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    let error = Sqlite::open(&copy.path().join("begun.db")).await;
    assert!(error.unwrap_err().to_string().contains("a newer relay"));
    let mut after = files(copy.path());
    after.retain(|name, _| !name.ends_with("-shm"));
    assert!(after == before, "it was touched");
    // an empty file, left by a relay that was killed in its first moment, is a new one
    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, []).unwrap();
    let mut store = Sqlite::open(&empty).await.unwrap();
    assert_eq!(store.load().await, Ok(Snapshot::default()));
}

/// All files of a folder, with what they hold.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    entries.collect()
}

/// Does this to a file as another program would.
async fn other(path: &Path, does: &[&'static str]) {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut program = SqliteConnection::connect_with(&options).await.unwrap();
    for step in does {
        sqlx::query(*step).execute(&mut program).await.unwrap();
    }
    program.close().await.unwrap();
}

// covers: SUORA-DSK-123
#[tokio::test]
async fn what_is_none_of_ours_stays_as_it_is_and_one_is_told_what_to_do() {
    const WAL: &str = "PRAGMA journal_mode = WAL";
    const SEATS: &str = "CREATE TABLE seat (number INTEGER)";
    const LIST: &str = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, \
                        success BOOLEAN NOT NULL, checksum BLOB NOT NULL)";
    let theirs: [&[&'static str]; 7] = [
        &[SEATS],
        &[WAL, SEATS],
        // a table that is called as ours
        &["CREATE TABLE ticket (seat INTEGER)"],
        // another mark, and nothing else yet
        &["PRAGMA application_id = 7"],
        // their schemas are numbered by the same library
        &[LIST, "INSERT INTO _sqlx_migrations VALUES (1, 1, x'00')"],
        &[
            LIST,
            "INSERT INTO _sqlx_migrations VALUES (20260101, 1, x'00')",
        ],
        &[LIST, SEATS],
    ];
    for (number, does) in theirs.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        other(&path, does).await;
        let before = files(dir.path());
        assert_eq!(before.len(), 1, "{number}");
        let opened = Sqlite::open(&path).await;
        let examined = Sqlite::examine(&path).await;
        for error in [opened.unwrap_err(), examined.unwrap_err()] {
            assert_eq!(error.code, Code::BadFile);
            let said = error.to_string();
            assert!(said.contains("not one of ours"), "{number}: {said}");
        }
        assert!(files(dir.path()) == before, "{number} was touched");
    }
    // so does what is no database at all
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    std::fs::write(&path, [0x55; 5_000]).unwrap();
    let before = files(dir.path());
    assert_eq!(Sqlite::open(&path).await.unwrap_err().code, Code::BadFile);
    assert!(files(dir.path()) == before, "it was touched");
    let error = Sqlite::open(dir.path()).await.unwrap_err();
    assert_eq!(error.code, Code::BadFile);
}

// covers: SUORA-DSK-123
#[tokio::test]
async fn a_damaged_file_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = filled(dir.path()).await;
    let mut bytes = std::fs::read(&path).unwrap();
    // the first page of a table
    bytes[4_096..4_196].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("restore a copy"), "{error}");
    let after = files(dir.path());
    assert!(after.len() == 1 && after["relay.db"] == bytes);
}

/// The mark that a file bears.
async fn mark(path: &Path) -> i64 {
    let mut reader = to_read(path).await.unwrap();
    let mark: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut reader)
        .await
        .unwrap();
    reader.close().await.unwrap();
    mark
}

// covers: SUORA-DSK-123
#[tokio::test]
async fn a_file_is_marked_as_ours_and_one_from_before_the_mark_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reference) = filled(dir.path()).await;
    assert_eq!(mark(&path).await, MARK);
    other(&path, &["PRAGMA application_id = 0"]).await;
    assert_eq!(mark(&path).await, 0);
    let mut store = Sqlite::open(&path).await.unwrap();
    assert_eq!(store.load().await, Ok(reference));
    store.close().await.unwrap();
    assert_eq!(mark(&path).await, MARK);
    // a file of a relay that was killed before it had made a table
    let begun = dir.path().join("begun.db");
    let store = Sqlite::open_with(&begun, Vec::new()).await.unwrap();
    store.close().await.unwrap();
    other(&begun, &["PRAGMA application_id = 0"]).await;
    let mut store = Sqlite::open(&begun).await.unwrap();
    assert_eq!(store.load().await, Ok(Snapshot::default()));
}

// covers: SUORA-DSK-009
#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(&dir.path().join("relay.db")).await.unwrap();
    // a kill would not show it, a power cut would: with NORMAL, which is 1, only now and then
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut store.connection)
        .await
        .unwrap();
    assert!(synchronous >= 2, "{synchronous}");
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut store.connection)
        .await
        .unwrap();
    assert_eq!(journal, "wal");
}

/// How many of these people's keys are in the files of a store.
fn left(dir: &Path, people: &[PeerId]) -> usize {
    let files: Vec<Vec<u8>> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let lies = |bytes: &Vec<u8>, key: &[u8]| bytes.windows(32).any(|window| window == key);
    people
        .iter()
        .filter(|peer| files.iter().any(|bytes| lies(bytes, peer.as_bytes())))
        .count()
}

/// 120 people come and leave, in another order; three who came between them stay. The 120.
async fn crowd(store: &mut Sqlite) -> Vec<PeerId> {
    let mut draw = suora_protocol::identity::Draw::from_seed([5; 32]);
    let mut people = Vec::new();
    let mut tickets = Vec::new();
    for order in 1..=123 {
        let guest = PeerId::from_bytes(draw.bytes());
        let ticket = TicketId::from_bytes(draw.bytes());
        let row = Row {
            guest,
            ticket,
            ..row(order)
        };
        store.commit(&[Change::Put(row)]).await.unwrap();
        if order % 41 != 0 {
            people.push(guest);
            tickets.push(ticket);
        }
    }
    tickets.sort();
    for ticket in tickets {
        store.commit(&[Change::Drop(ticket)]).await.unwrap();
    }
    assert_eq!(store.load().await.unwrap().rows.len(), 3);
    people
}

/// How many of the crowd are in the files while the relay runs, once it forgot, and once it closed.
async fn come_and_go(secure: &'static str) -> [usize; 3] {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir.path().join("relay.db")).pragma("secure_delete", secure);
    let mut store = Sqlite::open_as(options, migrations()).await.unwrap();
    let people = crowd(&mut store).await;
    let runs = left(dir.path(), &people);
    assert!(store.forget().await);
    let forgot = left(dir.path(), &people);
    store.close().await.unwrap();
    [runs, forgot, left(dir.path(), &people)]
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn who_left_is_in_no_byte_of_the_files() {
    let [runs, forgot, closed] = come_and_go("ON").await;
    assert_eq!((runs > 0, forgot, closed), (true, 0, 0), "{runs}");
    // the control: without the overwriting they lie there for whoever takes the disk
    let [_, forgot, closed] = come_and_go("OFF").await;
    assert!(forgot > 0 && closed > 0, "{forgot} {closed}");
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn what_an_older_relay_left_in_its_file_is_overwritten_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let careless = options(&path).pragma("secure_delete", "OFF");
    let older = migrations().into_iter().take(2).collect();
    let mut store = Sqlite::open_as(careless, older).await.unwrap();
    let people = crowd(&mut store).await;
    let waiting = store.load().await;
    store.close().await.unwrap();
    assert!(left(dir.path(), &people) > 0);
    let mut store = Sqlite::open(&path).await.unwrap();
    assert_eq!(left(dir.path(), &people), 0);
    assert_eq!(store.load().await, waiting);
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn what_a_killed_relay_left_in_its_journal_is_forgotten_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let mut store = Sqlite::open(&path).await.unwrap();
    let row = row(1);
    store.commit(&[Change::Put(row.clone())]).await.unwrap();
    store.commit(&[Change::Drop(row.ticket)]).await.unwrap();
    // a copy of the files, as a kill leaves them
    let killed = tempfile::tempdir().unwrap();
    for name in ["relay.db", "relay.db-wal"] {
        std::fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
    }
    assert_eq!(left(killed.path(), &[row.guest]), 1);
    let store = Sqlite::open(&killed.path().join("relay.db")).await.unwrap();
    assert_eq!(left(killed.path(), &[row.guest]), 0);
    drop(store);
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn nobody_waits_for_who_reads_and_what_was_deleted_is_forgotten_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let mut store = Sqlite::open(&path).await.unwrap();
    let gone = row(1);
    store.commit(&[Change::Put(gone.clone())]).await.unwrap();
    let mut reader = to_read(&path).await.unwrap();
    let mut reads = reader.begin().await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM ticket")
        .fetch_one(&mut *reads)
        .await
        .unwrap();
    assert_eq!(seen, 1);
    store.commit(&[Change::Drop(gone.ticket)]).await.unwrap();
    // two of them in less than a commit may wait for the lock
    let hurries = async {
        let forgot = [store.forget().await, store.forget().await];
        store.commit(&[Change::Put(row(2))]).await.unwrap();
        forgot
    };
    let forgot = tokio::time::timeout(Duration::from_secs(4), hurries).await;
    assert_eq!(forgot, Ok([false, false]));
    assert_eq!(left(dir.path(), &[gone.guest]), 1);
    // whoever comes to a file in use starts all the same
    let second = Sqlite::open(&path).await.unwrap();
    second.close().await.unwrap();
    drop(reads);
    reader.close().await.unwrap();
    store.commit(&[Change::Drop(row(2).ticket)]).await.unwrap();
    assert!(store.forget().await);
    assert_eq!(left(dir.path(), &[gone.guest]), 0);
}

#[tokio::test]
async fn a_file_in_use_is_examined_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let mut store = Sqlite::open(&path).await.unwrap();
    let changes = [Change::Put(row(1)), Change::Put(row(2))];
    store.commit(&changes).await.unwrap();
    assert_eq!(Sqlite::examine(&path).await, Ok(2));
    store.commit(&[Change::Drop(row(1).ticket)]).await.unwrap();
    assert_eq!(Sqlite::examine(&path).await, Ok(1));
    let newer = "UPDATE _sqlx_migrations SET version = 7 \
                 WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(newer)
        .execute(&mut store.connection)
        .await
        .unwrap();
    let error = Sqlite::examine(&path).await.unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
    std::fs::write(&path, [0x55; 5_000]).unwrap();
    let error = Sqlite::examine(&path).await.unwrap_err();
    assert_eq!(error.code, Code::BadFile);
}
