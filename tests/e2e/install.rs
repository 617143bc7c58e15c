//! What `make install` puts in place works from there.
