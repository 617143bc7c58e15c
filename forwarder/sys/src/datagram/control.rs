//! Control messages as cmsg(3) lays them out: a header of length, level and type, the data behind
//! it, and the next one at the next multiple of a word.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Local;

/// Room for what we ask for: a source or a destination address, and one number more.
pub(super) const CONTROL_LEN: usize = 72;

/// cmsg(3): control buffers are aligned for their headers.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_LEN]);

const HEADER_LEN: usize = align(size_of::<libc::cmsghdr>());

/// CMSG_ALIGN of cmsg(3).
const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// The address that a datagram was sent to, if it is among the control messages in `bytes`.
pub(super) fn read(mut bytes: &[u8]) -> Option<Local> {
    while bytes.len() >= HEADER_LEN {
        let len = usize::from_ne_bytes(at(bytes, offset_of!(libc::cmsghdr, cmsg_len)));
        let level = i32::from_ne_bytes(at(bytes, offset_of!(libc::cmsghdr, cmsg_level)));
        let kind = i32::from_ne_bytes(at(bytes, offset_of!(libc::cmsghdr, cmsg_type)));
        let Some(data) = bytes.get(HEADER_LEN..len) else { break };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= size_of::<libc::in_pktinfo>() => {
                // The address that is ours, also where the datagram was sent to a broadcast one.
                let ip: [u8; 4] = at(data, offset_of!(libc::in_pktinfo, ipi_spec_dst));
                return Some(Local::new(Ipv4Addr::from(ip).into()));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                if data.len() >= size_of::<libc::in6_pktinfo>() =>
            {
                let ip: [u8; 16] = at(data, offset_of!(libc::in6_pktinfo, ipi6_addr));
                let ip = Ipv6Addr::from(ip);
                let interface = at(data, offset_of!(libc::in6_pktinfo, ipi6_ifindex));
                let interface =
                    if ip.is_unicast_link_local() { u32::from_ne_bytes(interface) } else { 0 };
                return Some(Local { ip: ip.into(), interface });
            }
            _ => {}
        }
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    None
}

/// Control messages to go with a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    pub(super) control: Control,
    pub(super) len: usize,
}

impl Writer {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { control: Control([0; CONTROL_LEN]), len: 0 }
    }

    /// Names the address that the datagram is to come from.
    pub(super) fn source(&mut self, local: Local) {
        match local.ip {
            IpAddr::V4(ip) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                put(&mut info, offset_of!(libc::in_pktinfo, ipi_spec_dst), &ip.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(ip) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                put(&mut info, offset_of!(libc::in6_pktinfo, ipi6_addr), &ip.octets());
                let interface = local.interface.to_ne_bytes();
                put(&mut info, offset_of!(libc::in6_pktinfo, ipi6_ifindex), &interface);
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// Has the payload cut into datagrams of so many bytes.
    pub(super) fn segment(&mut self, bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER_LEN + data.len();
        let rest = &mut self.control.0[self.len..];
        put(rest, offset_of!(libc::cmsghdr, cmsg_len), &len.to_ne_bytes());
        put(rest, offset_of!(libc::cmsghdr, cmsg_level), &level.to_ne_bytes());
        put(rest, offset_of!(libc::cmsghdr, cmsg_type), &kind.to_ne_bytes());
        put(rest, HEADER_LEN, data);
        self.len += align(len);
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[offset + index])
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_laid_out_as_the_c_library_says() {
        let mut writer = Writer::new();
        writer.source(Local::new("::1".parse().unwrap()));
        writer.segment(1200);
        // SAFETY: CMSG_SPACE only computes a length.
        let first = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) };
        // SAFETY: as above.
        let second = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) };
        assert_eq!(writer.len, (first + second) as usize);
        let written = &writer.control.0[..writer.len];
        assert_eq!(read(written), Some(Local::new("::1".parse().unwrap())));
    }

    #[test]
    fn a_cut_or_foreign_control_buffer_is_read_as_far_as_it_goes() {
        let mut writer = Writer::new();
        writer.push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        writer.source(Local::new("127.0.0.2".parse().unwrap()));
        let whole = &writer.control.0[..writer.len];
        let local = Some(Local::new("127.0.0.2".parse().unwrap()));
        assert_eq!(read(whole), local);
        for len in 0..whole.len() {
            read(&whole[..len]);
        }
        assert_eq!(read(&[0xff; CONTROL_LEN]), None);
        assert_eq!(read(&[0; CONTROL_LEN]), None);
    }
}
