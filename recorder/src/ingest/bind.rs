//! Binding a Unix socket at a path that may hold a socket already.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Who may connect: owner and group.
const MODE: u32 = 0o660;

/// A bound socket and where it lies.
#[derive(Debug)]
pub struct Bound {
    /// The socket, listening.
    pub listener: UnixListener,
    /// Its file.
    pub path: PathBuf,
}

/// Why a socket could not be bound (exit code 69, or 77 for a lack of permission).
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("{path} is in use: another process listens there; stop it, or give another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a socket lies there.
    #[error("{path} exists and is not a socket: remove it, or give another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds `path`, for owner and group to connect. A socket that nobody listens on is replaced.
///
/// # Errors
/// Somebody listens there, something else lies there, or it may not be bound.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let io = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(io)?;
            }
            Ok(_) => return Err(BindError::InUse { path: path.to_owned() }),
            Err(error) => return Err(io(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(io)?;
    Ok(Bound { listener, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a crash leaves the file behind");
        let bound = bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
        let refused = bind(&path).unwrap_err();
        assert!(matches!(refused, BindError::InUse { .. }), "{refused}");
        drop(bound);
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let refused = bind(&path).unwrap_err();
        assert!(matches!(refused, BindError::NotASocket { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
