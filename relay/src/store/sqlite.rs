//! DOOR: the embedded store, SQLite in WAL mode with full synchronisation.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};
use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;

use super::Store;
use crate::hub::change::{Change, Row, Snapshot};

/// A SQLite file, with one writer.
#[derive(Debug)]
pub struct Sqlite {
    connection: SqliteConnection,
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadFile).with(format!("the store: {error}"))
}

fn bytes<const N: usize>(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<[u8; N], Fault> {
    let bytes: Vec<u8> = row.try_get(column).map_err(failed)?;
    bytes
        .try_into()
        .map_err(|_| failed(format!("{column} is not {N} bytes long")))
}

impl Sqlite {
    /// Opens or creates the file and brings its schema up to date.
    /// A damaged file, or one of a newer version, is [`Code::BadFile`].
    pub async fn open(path: &Path) -> Result<Self, Fault> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(failed)?;
        let first = Migration::new(
            1,
            "tickets".into(),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(include_str!(
                "../../migrations/sqlite/0001_tickets.sql"
            )),
            false,
        );
        let migrator = Migrator {
            migrations: vec![first].into(),
            ..Migrator::DEFAULT
        };
        migrator
            .run_direct(None, &mut connection, false)
            .await
            .map_err(failed)?;
        Ok(Self { connection })
    }
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
                desk: DeskId::new(&desk).map_err(failed)?,
                guest: PeerId::from_bytes(bytes(&row, "guest")?),
                challenge: Challenge::from_bytes(bytes(&row, "challenge")?),
                order: u64::try_from(number("place")?).map_err(failed)?,
                joined: Timestamp::from_micros(number("joined")?),
                attempt: u32::try_from(number("attempt")?).map_err(failed)?,
                officer: officer
                    .map(|_| bytes(&row, "officer"))
                    .transpose()?
                    .map(PeerId::from_bytes),
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
            };
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn close(self) -> Result<(), Fault> {
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
    async fn a_damaged_file_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        std::fs::write(&path, [0x55; 5_000]).unwrap();
        let error = Sqlite::open(&path).await.unwrap_err();
        assert_eq!(error.code, Code::BadFile);
    }
}
