//! What the kernel knows of a TCP connection (tcp(7) `TCP_INFO`).

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_void, socklen_t, tcp_info};

/// What the kernel knows of a TCP connection, open or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round trip in microseconds; 0: none was ever measured.
    pub rtt_us: u32,
    /// How much the round trip varies, in microseconds.
    pub rtt_var_us: u32,
    /// How long the kernel waits for an acknowledgement before it sends again, in microseconds.
    pub rto_us: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
    /// Segments that are taken for lost at the moment.
    pub lost: u32,
    /// The congestion window in segments.
    pub cwnd: u32,
    /// Most payload of a segment that we send, in bytes.
    pub mss: u32,
    /// Largest packet that the path takes, in bytes.
    pub pmtu: u32,
    /// What the kernel's receive window is tuned for, in bytes.
    pub rcv_space: u32,
    /// What the peer has acknowledged, in bytes of sequence space: payload, one for our SYN if we
    /// connected, one for our FIN. A reset leaves it as it was.
    pub bytes_acked: u64,
}

/// Asks the kernel.
///
/// # Errors
/// What getsockopt(2) gives; [`io::ErrorKind::Unsupported`] from a kernel before Linux 4.1.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let fd = socket.as_fd().as_raw_fd();
    let mut info = MaybeUninit::<tcp_info>::zeroed();
    let mut len = size_of::<tcp_info>() as socklen_t;
    // SAFETY: `fd` is open while `socket` is borrowed; the pointer and `len` describe writable
    // memory that lives across the call, which writes at most `len` bytes and stores how many.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < offset_of!(tcp_info, tcpi_bytes_acked) + size_of::<u64>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: all of it was zeroed, and every bit pattern is a `tcp_info`: it is all integers.
    let info = unsafe { info.assume_init() };
    Ok(TcpInfo {
        rtt_us: info.tcpi_rtt,
        rtt_var_us: info.tcpi_rttvar,
        rto_us: info.tcpi_rto,
        retransmits: info.tcpi_total_retrans,
        lost: info.tcpi_lost,
        cwnd: info.tcpi_snd_cwnd,
        mss: info.tcpi_snd_mss,
        pmtu: info.tcpi_pmtu,
        rcv_space: info.tcpi_rcv_space,
        bytes_acked: info.tcpi_bytes_acked,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    /// Both ends of a connection: who connected, who accepted.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let active = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (passive, _) = listener.accept().unwrap();
        for stream in [&active, &passive] {
            stream.set_read_timeout(Some(BOUND)).unwrap();
            stream.set_write_timeout(Some(BOUND)).unwrap();
        }
        (active, passive)
    }

    /// Waits until the peer has acknowledged so much.
    fn acknowledged(stream: &TcpStream, bytes: u64) -> TcpInfo {
        let begun = Instant::now();
        loop {
            let info = tcp_info(stream).unwrap();
            if info.bytes_acked >= bytes || begun.elapsed() > BOUND {
                assert_eq!(info.bytes_acked, bytes);
                return info;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn syn_and_fin_count_as_one_byte_each_beside_the_payload() {
        let (active, passive) = connection();
        for (mut sender, mut receiver, syn) in [(&active, &passive, 1), (&passive, &active, 0)] {
            acknowledged(sender, syn);
            sender.write_all(&[7; 1000]).unwrap();
            receiver.read_exact(&mut [0; 1000]).unwrap();
            let info = acknowledged(sender, syn + 1000);
            assert!(info.rtt_us > 0 && info.rto_us > 0 && info.cwnd > 0, "{info:?}");
            assert!(info.mss > 0 && info.pmtu >= info.mss && info.rcv_space > 0, "{info:?}");
            sender.shutdown(Shutdown::Write).unwrap();
            acknowledged(sender, syn + 1001);
        }
    }

    #[test]
    fn a_reset_connection_still_tells_what_was_acknowledged() {
        let (mut active, passive) = connection();
        active.write_all(&[7; 1000]).unwrap();
        acknowledged(&active, 1001);
        // Closed with something unread, a connection is reset.
        drop(passive);
        assert!(active.read(&mut [0]).is_err());
        acknowledged(&active, 1001);
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_info(&socket).is_err());
    }
}
