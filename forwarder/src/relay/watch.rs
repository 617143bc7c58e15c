//! Sockets that the runtime watches for one kind of event alone.

use std::io;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch a socket for `interest`. The runtime's own UDP sockets are also watched for
/// room to write: each datagram that has left would wake the thread, to tell it nothing.
///
/// # Errors
/// What epoll_ctl(2) gives.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of owners that change their descriptor; a Socket never does"
)]
pub(crate) fn watch(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, interest)
}
