//! DOOR: the embedded store, SQLite in WAL mode with full synchronisation.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};
use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;

use super::Store;
use crate::hub::change::{Change, Enrolled, Row, Snapshot};

/// A SQLite file, with one writer.
#[derive(Debug)]
pub struct Sqlite {
    connection: SqliteConnection,
}

/// SQLite's primary result codes that say what to do.
const FULL: i32 = 13;
const IO: i32 = 10;
const READ_ONLY: i32 = 8;
const BUSY: i32 = 5;
const CANNOT_OPEN: i32 = 14;
const DAMAGED: [i32; 2] = [11, 26];

/// What an operator does about a store that failed.
fn remedy(error: &sqlx::Error) -> &'static str {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
        sqlx::Error::Migrate(error) => {
            return match **error {
                MigrateError::Execute(ref error) | MigrateError::ExecuteMigration(ref error, _) => {
                    remedy(error)
                }
                MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                    "a newer relay made it: run that one, or restore a copy from before"
                }
                _ => {
                    "its schema is not one of ours: restore a copy, or move it away to begin with an empty queue"
                }
            };
        }
        _ => None,
    };
    match code.map(|code| code & 0xff) {
        Some(FULL) => "the disk is full: make room, then start again; all that was said is kept",
        Some(IO) => {
            "the disk cannot be read or written: mend it, then start again; all that was said is kept"
        }
        Some(READ_ONLY) => {
            "it cannot be written: let the relay's account write the file and its folder"
        }
        Some(CANNOT_OPEN) => "it cannot be opened: check the folder, and who may use it",
        Some(BUSY) => "another program has it open: end that one, then start again",
        Some(code) if DAMAGED.contains(&code) => {
            "it is damaged: restore a copy, or move it away to begin with an empty queue"
        }
        _ => "see what the database says",
    }
}

fn failed(error: impl Into<sqlx::Error>) -> Fault {
    let error = error.into();
    Fault::new(Code::BadFile).with(format!("the store: {} ({error})", remedy(&error)))
}

/// A value that no relay writes.
fn senseless(what: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadFile).with(format!(
        "the store: it is damaged: restore a copy, or move it away to begin with an empty queue ({what})"
    ))
}

fn bytes<const N: usize>(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<[u8; N], Fault> {
    let bytes: Vec<u8> = row.try_get(column).map_err(failed)?;
    bytes
        .try_into()
        .map_err(|_| senseless(format!("{column} is not {N} bytes long")))
}

/// How a file is opened. What is deleted is overwritten with zeros.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

impl Sqlite {
    /// Opens or creates the file and brings its schema up to date.
    /// A damaged file, or one of a newer version, is [`Code::BadFile`], which says what to do.
    pub async fn open(path: &Path) -> Result<Self, Fault> {
        Self::open_with(path, migrations()).await
    }

    async fn open_with(path: &Path, migrations: Vec<Migration>) -> Result<Self, Fault> {
        Self::open_as(options(path), migrations).await
    }

    async fn open_as(
        options: SqliteConnectOptions,
        migrations: Vec<Migration>,
    ) -> Result<Self, Fault> {
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(failed)?;
        let migrator = Migrator {
            migrations: migrations.into(),
            ..Migrator::DEFAULT
        };
        migrator
            .run_direct(None, &mut connection, false)
            .await
            .map_err(failed)?;
        // a page that was overwritten is found now, not when its ticket is served
        let check: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(1)")
            .fetch_all(&mut connection)
            .await
            .map_err(failed)?;
        match check.as_slice() {
            [fine] if fine == "ok" => {}
            wrong => return Err(senseless(wrong.join("; "))),
        }
        let mut store = Self { connection };
        // a relay that was killed left its journal
        store.forget().await?;
        Ok(store)
    }

    /// Looks at a file, which a relay may be using, without a change: whether it is whole and
    /// of this version, and how many tickets it holds.
    pub async fn examine(path: &Path) -> Result<i64, Fault> {
        let mut connection = to_read(path).await?;
        let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if said != "ok" {
            return Err(senseless(said));
        }
        let version: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let known = migrations().last().map_or(0, |newest| newest.version);
        if version > known {
            return Err(Fault::new(Code::BadFile).with(format!(
                "the store: a newer relay made it (version {version}, this one knows {known}): run that one, or restore a copy from before"
            )));
        }
        let tickets = sqlx::query_scalar("SELECT count(*) FROM ticket")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        Ok(tickets)
    }

    /// How many credentials that have not ended a file holds, and when the first of them ends;
    /// without a change, as [`Self::examine`].
    pub async fn credentials(
        path: &Path,
        now: Timestamp,
    ) -> Result<(i64, Option<Timestamp>), Fault> {
        let mut connection = to_read(path).await?;
        // an older relay's file has no such table until this one's first start
        let asked = "SELECT count(*) FROM sqlite_master WHERE name = 'credential'";
        let table: i64 = sqlx::query_scalar(asked)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let (count, first): (i64, Option<i64>) = if table == 0 {
            (0, None)
        } else {
            let asked = "SELECT count(*), min(not_after) FROM credential WHERE not_after > $1";
            sqlx::query_as(asked)
                .bind(now.as_micros())
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?
        };
        connection.close().await.map_err(failed)?;
        Ok((count, first.map(Timestamp::from_micros)))
    }
}

/// A file that a relay may be using, for looking only.
async fn to_read(path: &Path) -> Result<SqliteConnection, Fault> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)
}

/// The schemas so far, in order.
fn migrations() -> Vec<Migration> {
    let migration = |version, name: &'static str, sql: &'static str| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    vec![
        migration(
            1,
            "tickets",
            include_str!("../../migrations/sqlite/0001_tickets.sql"),
        ),
        migration(
            2,
            "credentials",
            include_str!("../../migrations/sqlite/0002_credentials.sql"),
        ),
    ]
}

impl Store for Sqlite {
    async fn load(&mut self) -> Result<Snapshot, Fault> {
        let rows = sqlx::query("SELECT * FROM ticket ORDER BY place")
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let mut snapshot = Snapshot::default();
        for row in rows {
            let officer: Option<Vec<u8>> = row.try_get("officer").map_err(failed)?;
            let desk: String = row.try_get("desk").map_err(failed)?;
            let number = |column: &str| row.try_get::<i64, _>(column).map_err(failed);
            snapshot.rows.push(Row {
                ticket: TicketId::from_bytes(bytes(&row, "ticket")?),
                desk: DeskId::new(&desk).map_err(senseless)?,
                guest: PeerId::from_bytes(bytes(&row, "guest")?),
                challenge: Challenge::from_bytes(bytes(&row, "challenge")?),
                order: u64::try_from(number("place")?).map_err(senseless)?,
                joined: Timestamp::from_micros(number("joined")?),
                attempt: u32::try_from(number("attempt")?).map_err(senseless)?,
                officer: officer
                    .map(|_| bytes(&row, "officer"))
                    .transpose()?
                    .map(PeerId::from_bytes),
            });
        }
        let rows = sqlx::query("SELECT * FROM credential ORDER BY peer")
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        for row in rows {
            let time = |column: &str| row.try_get::<i64, _>(column).map_err(failed);
            let document: Vec<u8> = row.try_get("document").map_err(failed)?;
            snapshot.enrolled.push(Enrolled {
                peer: PeerId::from_bytes(bytes(&row, "peer")?),
                credential: document.into(),
                issued_at: Timestamp::from_micros(time("issued_at")?),
                not_after: Timestamp::from_micros(time("not_after")?),
            });
        }
        Ok(snapshot)
    }

    async fn commit(&mut self, changes: &[Change]) -> Result<(), Fault> {
        let mut transaction = self.connection.begin().await.map_err(failed)?;
        for change in changes {
            let query = match change {
                Change::Put(row) => sqlx::query(
                    "INSERT OR REPLACE INTO ticket VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(row.ticket.as_bytes().to_vec())
                .bind(row.desk.as_str().to_string())
                .bind(row.guest.as_bytes().to_vec())
                .bind(row.challenge.as_bytes().to_vec())
                .bind(i64::try_from(row.order).unwrap_or(i64::MAX))
                .bind(row.joined.as_micros())
                .bind(i64::from(row.attempt))
                .bind(row.officer.map(|officer| officer.as_bytes().to_vec())),
                Change::Drop(ticket) => sqlx::query("DELETE FROM ticket WHERE ticket = $1")
                    .bind(ticket.as_bytes().to_vec()),
                Change::Enrol(enrolled) => {
                    sqlx::query("INSERT OR REPLACE INTO credential VALUES ($1, $2, $3, $4)")
                        .bind(enrolled.peer.as_bytes().to_vec())
                        .bind(enrolled.credential.to_vec())
                        .bind(enrolled.issued_at.as_micros())
                        .bind(enrolled.not_after.as_micros())
                }
                Change::Expel(peer) => sqlx::query("DELETE FROM credential WHERE peer = $1")
                    .bind(peer.as_bytes().to_vec()),
            };
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// The journal keeps pages as they were before a deletion: it is brought into the file, and
    /// cut to nothing.
    async fn forget(&mut self) -> Result<(), Fault> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.connection)
            .await
            .map(|_| ())
            .map_err(failed)
    }

    async fn close(mut self) -> Result<(), Fault> {
        self.forget().await?;
        self.connection.close().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
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
        let before = std::fs::read(&path).unwrap();
        // the relay of today does not touch tomorrow's
        let error = Sqlite::open(&path).await.unwrap_err();
        assert_eq!(error.code, Code::BadFile);
        assert!(error.to_string().contains("a newer relay"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let mut store = Sqlite::open_with(&path, later()).await.unwrap();
        assert_eq!(store.load().await, Ok(reference));
        // an empty file, left by a relay that was killed in its first moment, is a new one
        let empty = dir.path().join("empty.db");
        std::fs::write(&empty, []).unwrap();
        let mut store = Sqlite::open(&empty).await.unwrap();
        assert_eq!(store.load().await, Ok(Snapshot::default()));
    }

    // covers: SUORA-DSK-123
    #[tokio::test]
    async fn a_file_of_somebody_else_or_none_that_can_be_written_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("relay.db");
        std::fs::create_dir(&folder).unwrap();
        let error = Sqlite::open(&folder).await.unwrap_err();
        assert_eq!(error.code, Code::BadFile);
        // another program's database, with a table of that name
        let path = dir.path().join("other.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query("CREATE TABLE ticket (seat INTEGER)")
            .execute(&mut other)
            .await
            .unwrap();
        other.close().await.unwrap();
        let error = Sqlite::open(&path).await.unwrap_err();
        assert_eq!(error.code, Code::BadFile);
        assert!(error.to_string().contains("already exists"), "{error}");
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

    /// 120 people come and leave, in another order; three who came between them stay. How many
    /// of the 120 are in the files while the relay runs, once it forgot, and once it closed.
    async fn come_and_go(secure: &'static str) -> [usize; 3] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir.path().join("relay.db")).pragma("secure_delete", secure);
        let mut store = Sqlite::open_as(options, migrations()).await.unwrap();
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
        let runs = left(dir.path(), &people);
        store.forget().await.unwrap();
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
}
