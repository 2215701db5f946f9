-- Relays before this one deleted without overwriting: the file is written anew, once.
VACUUM;
