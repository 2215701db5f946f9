CREATE TABLE credential (
    peer      BLOB PRIMARY KEY NOT NULL,
    document  BLOB NOT NULL,
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL
) STRICT;
