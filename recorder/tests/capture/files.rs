//! Loss, rotation, crashes and strangers: what is in the files and the index then.
