//! Socket addresses as the kernel writes and reads them: sockaddr_in of ip(7), sockaddr_in6 of
//! ipv6(7).

use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the larger of both forms.
pub(super) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// An address in the kernel's form.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))]
pub(super) struct Name(pub(super) [u8; NAME_LEN]);

impl Name {
    /// No address.
    pub(super) const NONE: Self = Self([0; NAME_LEN]);

    /// The address; `None`: it is of another family.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        let family = u16::from_ne_bytes(self.at(offset_of!(libc::sockaddr_in, sin_family)));
        match i32::from(family) {
            libc::AF_INET => {
                let port = self.at(offset_of!(libc::sockaddr_in, sin_port));
                let ip: [u8; 4] = self.at(offset_of!(libc::sockaddr_in, sin_addr));
                let ip = Ipv4Addr::from(ip);
                Some(SocketAddrV4::new(ip, u16::from_be_bytes(port)).into())
            }
            libc::AF_INET6 => {
                let port = self.at(offset_of!(libc::sockaddr_in6, sin6_port));
                let ip: [u8; 16] = self.at(offset_of!(libc::sockaddr_in6, sin6_addr));
                let scope = self.at(offset_of!(libc::sockaddr_in6, sin6_scope_id));
                let (ip, scope) = (Ipv6Addr::from(ip), u32::from_ne_bytes(scope));
                Some(SocketAddrV6::new(ip, u16::from_be_bytes(port), 0, scope).into())
            }
            _ => None,
        }
    }

    /// An address, and how many bytes of it count.
    pub(super) fn write(address: SocketAddr) -> (Self, usize) {
        let mut name = Self::NONE;
        let (family, len) = match address {
            SocketAddr::V4(v4) => {
                name.put(offset_of!(libc::sockaddr_in, sin_port), v4.port().to_be_bytes());
                name.put(offset_of!(libc::sockaddr_in, sin_addr), v4.ip().octets());
                (libc::AF_INET, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                name.put(offset_of!(libc::sockaddr_in6, sin6_port), v6.port().to_be_bytes());
                name.put(offset_of!(libc::sockaddr_in6, sin6_addr), v6.ip().octets());
                let scope = v6.scope_id().to_ne_bytes();
                name.put(offset_of!(libc::sockaddr_in6, sin6_scope_id), scope);
                (libc::AF_INET6, NAME_LEN)
            }
        };
        name.put(offset_of!(libc::sockaddr_in, sin_family), (family as u16).to_ne_bytes());
        (name, len)
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[offset + index])
    }

    fn put<const N: usize>(&mut self, offset: usize, value: [u8; N]) {
        self.0[offset..offset + N].copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["127.0.0.1:0", "255.255.255.255:65535", "[::1]:53", "[fe80::1%7]:4000"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::write(address).0.read(), Some(address), "{text}");
        }
    }

    #[test]
    fn socket2_writes_the_same() {
        for text in ["192.0.2.1:80", "[2001:db8::1%3]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            let theirs = socket2::SockAddr::from(address);
            let (ours, len) = Name::write(address);
            assert_eq!(len, theirs.len() as usize);
            assert_eq!(ours.read(), theirs.as_socket());
        }
    }

    #[test]
    fn another_family_is_no_address() {
        assert_eq!(Name::NONE.read(), None);
    }
}
