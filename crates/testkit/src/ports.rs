//! Ports that are free, for servers that can't say which one the system gave them.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    ops::Range,
    sync::{LazyLock, Mutex, PoisonError},
};

/// Where to look. Below the ports that Linux gives to outgoing connections and to whoever binds port 0 (from 32768 on): a
/// client that tries to reach a node just killed could be given that node's port for its own end, would then be connected to
/// itself, and the node could not come back.
const RANGE: Range<u16> = 15_000..32_000;

/// What this process was given, and whose server may not have begun to listen, or be down for a moment.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// So many ports in a row that nobody listens on, of IPv4 or IPv6, and that nobody else in this process is ever given: a test
/// may count on them until it ends. What another process may take is not known; tests are the only ones to look here, and run
/// one process after the other.
///
/// # Panics
/// There are none.
pub fn free_ports(count: u16) -> Vec<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let firsts = RANGE.start..=RANGE.end - count;
    let chance = RandomState::new().hash_one("ports") % u64::from(firsts.end() - firsts.start() + 1);
    let middle = firsts.start() + u16::try_from(chance).expect("less than a port");
    let mut firsts = (middle..=*firsts.end()).chain(*firsts.start()..middle);
    let is_free = |port| !given.contains(&port) && can_be_bound(port);
    let first = firsts.find(|&first| (first..first + count).all(is_free)).expect("so many ports in a row are free");
    given.extend(first..first + count);
    (first..first + count).collect()
}

fn can_be_bound(port: u16) -> bool {
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).map(drop);
    // Not every machine has IPv6.
    let six = !six.is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    six && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_in_a_row_and_given_once() {
        let mut all = HashSet::new();
        for _ in 0..100 {
            let ports = free_ports(30);

            assert_eq!(ports, (ports[0]..ports[0] + 30).collect::<Vec<_>>());
            assert!(ports.iter().all(|&port| RANGE.contains(&port) && can_be_bound(port)));
            assert!(ports.into_iter().all(|port| all.insert(port)), "it was given to another");
        }
    }

    #[test]
    fn a_port_of_either_kind_of_address_that_is_listened_on_is_not_free() {
        let port = free_ports(1)[0];
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert!(!can_be_bound(port));
        drop(four);
        assert!(can_be_bound(port));
        if let Ok(_six) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            assert!(!can_be_bound(port));
        }
    }
}
