CREATE TABLE ticket (
    ticket    BLOB PRIMARY KEY NOT NULL,
    desk      TEXT NOT NULL,
    guest     BLOB NOT NULL,
    challenge BLOB NOT NULL,
    place     INTEGER NOT NULL,
    joined    INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    officer   BLOB
) STRICT;
