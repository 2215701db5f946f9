//! Every bound of the protocol in one table.
