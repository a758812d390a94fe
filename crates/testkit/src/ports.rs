//! Ports that are free, for servers that can't say which one the system gave them.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// Where to look. Below the ports that Linux gives to outgoing connections (from 32768 on): a client that tries to
/// reach a node just killed could be given that node's port for its own end, would then be connected to itself, and
/// the node could not come back.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// So many different ports that nobody listened on a moment ago. Who takes them must be ready to find one taken.
pub fn free_ports(count: usize) -> Vec<u16> {
    let start = RandomState::new().hash_one("ports") % u64::from(RANGE.end - RANGE.start);
    let start = RANGE.start + u16::try_from(start).expect("less than a port");
    let candidates = (start..RANGE.end).chain(RANGE.start..start);
    // All are held until there are enough.
    let held = candidates.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let held: Vec<_> = held.take(count).collect();
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let mut ports = free_ports(9);
        assert!(ports.iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()));
        ports.dedup();
        assert_eq!(ports.len(), 9);
    }
}
