//! People stay out of logs.
