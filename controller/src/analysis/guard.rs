//! Which network addresses a request may go to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which network addresses a request may go to. Looked at after the name was resolved, and the connection is made to the
/// address that was looked at, so that a name cannot lead elsewhere in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Whether the machine itself may be asked; for tests and for development outside a cluster.
    pub loopback: bool,
}

/// Metadata services of clouds, which give credentials to whoever asks, outside the link-local range: Alibaba Cloud,
/// Azure's wire server, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same over IPv6: AWS, Google Cloud, Scaleway.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

impl Guard {
    /// Why a request must not go there; None if it may.
    pub fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(address) => self.refuses_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => self.refuses_v4(inner),
                None => self.refuses_v6(address),
            },
        }
    }

    fn refuses_v4(self, address: Ipv4Addr) -> Option<&'static str> {
        if address.is_loopback() {
            return (!self.loopback).then_some(LOOPBACK);
        }
        if address.is_link_local() || METADATA_V4.contains(&address) {
            return Some(METADATA);
        }
        // 0.0.0.0/8 reaches the machine itself on some systems.
        let reserved = address.octets()[0] == 0 || address.is_multicast() || address.is_broadcast();
        reserved.then_some(NO_HOST)
    }

    fn refuses_v6(self, address: Ipv6Addr) -> Option<&'static str> {
        if address.is_loopback() {
            return (!self.loopback).then_some(LOOPBACK);
        }
        if address.is_unicast_link_local() || METADATA_V6.contains(&address) {
            return Some(METADATA);
        }
        (address.is_unspecified() || address.is_multicast()).then_some(NO_HOST)
    }
}

const LOOPBACK: &str = "it is the machine of the controller itself";
const METADATA: &str = "it is link-local or a cloud's metadata service";
const NO_HOST: &str = "it is not the address of a host";

/// The IPv4 address inside an IPv6 address that leads to it: mapped, compatible, translated (64:ff9b::/96) and 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> bool {
        Guard::default().refuses(address.parse().expect("address")).is_some()
    }

    #[test]
    fn the_machine_itself_and_metadata_services_are_refused_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            "192.0.0.192",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(refused(address), "{address}");
        }
    }

    #[test]
    fn servers_inside_and_outside_the_cluster_are_not() {
        for address in
            ["10.96.0.10", "192.168.1.1", "100.64.0.7", "93.184.216.34", "fd00::1", "2a00:1450::1", "::ffff:10.0.0.1"]
        {
            assert!(!refused(address), "{address}");
        }
        let local = Guard { loopback: true };
        assert!(local.refuses("127.0.0.1".parse().expect("address")).is_none());
        assert!(local.refuses("169.254.169.254".parse().expect("address")).is_some());
    }
}
