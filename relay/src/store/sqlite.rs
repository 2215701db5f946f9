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

/// What an operator does about a file that another program made.
const FOREIGN: &str =
    "its schema is not one of ours: restore a copy, or move it away to begin with an empty queue";
/// What an operator does about the file of a newer relay.
const NEWER: &str = "a newer relay made it: run that one, or restore a copy from before";

/// By what a file says that it is ours: "Suor", its `application_id`. Those of the first versions
/// have none, which is 0.
const MARK: i64 = 0x5375_6f72;
/// Marks a file.
const MARKS: &str = "PRAGMA application_id = 0x53756f72";

/// What an operator does about a store that failed.
fn remedy(error: &sqlx::Error) -> &'static str {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
        sqlx::Error::Migrate(error) => {
            return match **error {
                MigrateError::Execute(ref error) | MigrateError::ExecuteMigration(ref error, _) => {
                    remedy(error)
                }
                MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => NEWER,
                _ => FOREIGN,
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

fn refused(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadFile).with(format!("the store: {why}"))
}

/// A value that no relay writes.
fn senseless(what: impl std::fmt::Display) -> Fault {
    refused(format!(
        "it is damaged: restore a copy, or move it away to begin with an empty queue ({what})"
    ))
}

fn bytes<const N: usize>(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<[u8; N], Fault> {
    let bytes: Vec<u8> = row.try_get(column).map_err(failed)?;
    bytes
        .try_into()
        .map_err(|_| senseless(format!("{column} is not {N} bytes long")))
}

/// How a file is opened. What is deleted is overwritten with zeros, and what is put aside for a
/// moment lies in no other file.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// While it cuts the journal it holds up everybody who writes: it does not wait for who reads.
const HURRIES: &str = "PRAGMA busy_timeout = 100";
/// As [`options`] has it.
const WAITS: &str = "PRAGMA busy_timeout = 5000";

impl Sqlite {
    /// Opens or creates the file and brings its schema up to date.
    /// A damaged file, another program's, or one of a newer version, is [`Code::BadFile`], which
    /// says what to do, and stays as it is.
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
        // to open it writes already
        let is_marked = look(options.get_filename(), &migrations).await?;
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
        if !is_marked {
            let marked = sqlx::query(MARKS).execute(&mut connection).await;
            marked.map_err(failed)?;
        }
        let mut store = Self { connection };
        // a relay that was killed left its journal
        store.forget().await;
        Ok(store)
    }

    /// Brings the journal, which keeps pages as they were before a deletion, into the file, and
    /// cuts it to nothing; false: somebody else reads.
    async fn cut(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query(HURRIES).execute(&mut self.connection).await?;
        let busy: Result<i64, _> = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut self.connection)
            .await;
        sqlx::query(WAITS).execute(&mut self.connection).await?;
        Ok(busy? == 0)
    }

    /// Looks at a file, which a relay may be using, without a change: whether it is whole and
    /// of this version, and how many tickets it holds.
    pub async fn examine(path: &Path) -> Result<i64, Fault> {
        let mut connection = to_read(path).await?;
        judge(&mut connection, &migrations()).await?;
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

/// Looks at a file before it is opened: whether it bears our mark. One that may not be opened is
/// [`Code::BadFile`]. Nothing is written but, where a program that was killed left its journal
/// beside the file, SQLite's index of that journal.
async fn look(path: &Path, known: &[Migration]) -> Result<bool, Fault> {
    match std::fs::metadata(path) {
        // a relay that was killed in its first moment left it
        Ok(meta) if meta.is_file() && meta.len() == 0 => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        _ => {}
    }
    let mut connection = to_read(path).await?;
    let judged = judge(&mut connection, known).await;
    let closed = connection.close().await.map_err(failed);
    judged.and_then(|is_marked| closed.map(|()| is_marked))
}

/// Whether a file bears our mark. One that is not whole is [`Code::BadFile`], and so is another
/// program's and a newer relay's; one in which nothing is yet is as good as ours.
async fn judge(connection: &mut SqliteConnection, known: &[Migration]) -> Result<bool, Fault> {
    // a page that was overwritten is found now, not when its ticket is served
    let check: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    match check.as_slice() {
        [fine] if fine == "ok" => {}
        wrong => return Err(senseless(wrong.join("; "))),
    }
    let mark: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if mark != 0 && mark != MARK {
        return Err(refused(FOREIGN));
    }
    let count = "SELECT count(*) FILTER (WHERE name = '_sqlx_migrations'), \
                 count(*) FILTER (WHERE tbl_name <> '_sqlx_migrations') FROM sqlite_master";
    let (lists, others): (i64, i64) = sqlx::query_as(count)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let applied: Vec<(i64, Vec<u8>)> = if lists == 0 {
        Vec::new()
    } else {
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?
    };
    let (mut ours, mut newest) = (0, None);
    for (version, checksum) in &applied {
        match known.iter().find(|schema| schema.version == *version) {
            Some(schema) if schema.checksum[..] == checksum[..] => ours += 1,
            // another program numbers its schemas too
            Some(_) => return Err(refused(FOREIGN)),
            None => newest = Some(*version),
        }
    }
    match newest {
        Some(version) if ours > 0 || mark == MARK => {
            let last = known.last().map_or(0, |newest| newest.version);
            Err(refused(format!(
                "{NEWER} (version {version}, this one knows {last})"
            )))
        }
        None if ours > 0 || others == 0 => Ok(mark == MARK),
        _ => Err(refused(FOREIGN)),
    }
}

/// A file that a relay may be using, for looking only. Without a journal beside it nobody writes
/// to it: then not even the journal is made that everybody makes who reads.
async fn to_read(path: &Path) -> Result<SqliteConnection, Fault> {
    // the journal lies where a link leads
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    let mut journal = path.clone().into_os_string();
    journal.push("-wal");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .immutable(!Path::new(&journal).exists())
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)
}

/// The schemas so far, in order.
fn migrations() -> Vec<Migration> {
    let migration = |version, name: &'static str, sql: &'static str, alone| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, alone)
    };
    vec![
        migration(
            1,
            "tickets",
            include_str!("../../migrations/sqlite/0001_tickets.sql"),
            false,
        ),
        migration(
            2,
            "credentials",
            include_str!("../../migrations/sqlite/0002_credentials.sql"),
            false,
        ),
        // within a transaction SQLite does not write a file anew
        migration(
            3,
            "overwritten",
            include_str!("../../migrations/sqlite/0003_overwritten.sql"),
            true,
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

    async fn forget(&mut self) -> bool {
        match self.cut().await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(
                    "another program reads the store: its journal keeps what was deleted"
                );
                false
            }
            Err(error) => {
                let fault = failed(error);
                tracing::error!(%fault, "the journal keeps what was deleted");
                false
            }
        }
    }

    async fn close(mut self) -> Result<(), Fault> {
        self.forget().await;
        self.connection.close().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests;
