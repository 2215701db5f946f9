//! PURE: which path two ends must get, computed from what their networks are, before
//! anything runs.

use crate::world::nat::Dependence;

/// What all translators and firewalls on the way out do together, in one address family: the
/// strictest of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// How inside addresses are mapped.
    pub mapping: Dependence,
    /// What is let in.
    pub filtering: Dependence,
}

impl Access {
    /// Nothing is in the way.
    pub const OPEN: Self = Self {
        mapping: Dependence::Independent,
        filtering: Dependence::Independent,
    };

    /// Both after each other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            mapping: self.mapping.max(other.mapping),
            filtering: self.filtering.max(other.filtering),
        }
    }

    fn maps_per_destination(self) -> bool {
        self.mapping != Dependence::Independent
    }

    /// A new mapping of this one would have to pass a filter or meet a mapping that cannot
    /// know it.
    fn misses(self, other: Self) -> bool {
        self.maps_per_destination()
            && (other.filtering == Dependence::AddressAndPort || other.maps_per_destination())
    }
}

/// What an end's network is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// UDP leaves and comes back.
    pub udp: bool,
    /// IPv4, where there is any.
    pub v4: Option<Access>,
    /// IPv6.
    pub v6: Option<Access>,
    /// The network behind its first translator, by number.
    pub lan: u16,
    /// The carrier's translator behind which its own one is, and whether that turns packets
    /// round (RFC 4787 section 6).
    pub carrier: Option<(u16, bool)>,
    /// The person hides the address: everything goes through the relay.
    pub relay_only: bool,
}

/// A path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Path {
    /// Inside the network that both are in.
    Host,
    /// From device to device.
    Direct,
    /// Through the relay.
    Relayed,
}

impl Path {
    /// For tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }
}

/// The path that these two must get.
pub fn expected(a: &Side, b: &Side) -> Path {
    if a.relay_only || b.relay_only {
        return Path::Relayed;
    }
    if a.lan == b.lan {
        return Path::Host;
    }
    let punches = |a: Option<Access>, b: Option<Access>| match (a, b) {
        (Some(a), Some(b)) => !a.misses(b) && !b.misses(a),
        _ => false,
    };
    // one carrier's customers meet outside of it only where it turns their packets round
    let turned = match (a.carrier, b.carrier) {
        (Some((one, hairpin)), Some((two, _))) if one == two => hairpin,
        _ => true,
    };
    let direct = (turned && punches(a.v4, b.v4)) || punches(a.v6, b.v6);
    match a.udp && b.udp && direct {
        true => Path::Direct,
        false => Path::Relayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dependence::{Address, AddressAndPort, Independent};

    fn side(lan: u16, mapping: Dependence, filtering: Dependence) -> Side {
        Side {
            udp: true,
            v4: Some(Access { mapping, filtering }),
            v6: None,
            lan,
            carrier: None,
            relay_only: false,
        }
    }

    #[test]
    fn the_table_of_translators() {
        let kinds = [
            (Independent, Independent),
            (Independent, Address),
            (Independent, AddressAndPort),
            (AddressAndPort, Independent),
            (AddressAndPort, Address),
            (AddressAndPort, AddressAndPort),
        ];
        // d: direct, r: relayed
        let table = ["dddddd", "dddddd", "dddrrr", "ddrrrr", "ddrrrr", "ddrrrr"];
        for (row, a) in kinds.iter().enumerate() {
            for (column, b) in kinds.iter().enumerate() {
                let path = expected(&side(1, a.0, a.1), &side(2, b.0, b.1));
                let listed = match table[row].as_bytes()[column] {
                    b'd' => Path::Direct,
                    _ => Path::Relayed,
                };
                assert_eq!(path, listed, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_family_must_be_shared_and_one_is_enough() {
        let open = Some(Access::OPEN);
        let symmetric = side(1, AddressAndPort, AddressAndPort);
        let four = side(2, Independent, Independent);
        let six = Side {
            v4: None,
            v6: open,
            ..side(3, Independent, Independent)
        };
        assert_eq!(expected(&four, &six), Path::Relayed);
        let both = |lan| Side {
            v6: Some(Access {
                mapping: Independent,
                filtering: AddressAndPort,
            }),
            lan,
            ..symmetric
        };
        assert_eq!(expected(&both(4), &six), Path::Direct);
        assert_eq!(expected(&both(4), &both(5)), Path::Direct);
        assert_eq!(expected(&both(4), &symmetric), Path::Relayed);
    }

    #[test]
    fn neighbours_meet_inside_and_who_hides_does_not() {
        let one = side(1, AddressAndPort, AddressAndPort);
        assert_eq!(expected(&one, &one), Path::Host);
        let hidden = Side {
            relay_only: true,
            ..side(1, Independent, Independent)
        };
        assert_eq!(expected(&one, &hidden), Path::Relayed);
        assert_eq!(
            expected(&hidden, &side(2, Independent, Independent)),
            Path::Relayed
        );
    }

    #[test]
    fn without_udp_there_is_no_direct_path() {
        let blocked = Side {
            udp: false,
            ..side(1, Independent, Independent)
        };
        assert_eq!(
            expected(&blocked, &side(2, Independent, Independent)),
            Path::Relayed
        );
    }

    #[test]
    fn customers_of_one_carrier_need_its_turning_round() {
        let customer = |lan, carrier, hairpin| Side {
            carrier: Some((carrier, hairpin)),
            ..side(lan, Independent, AddressAndPort)
        };
        assert_eq!(
            expected(&customer(1, 9, true), &customer(2, 9, true)),
            Path::Direct
        );
        assert_eq!(
            expected(&customer(1, 9, false), &customer(2, 9, false)),
            Path::Relayed
        );
        assert_eq!(
            expected(&customer(1, 8, false), &customer(2, 9, false)),
            Path::Direct
        );
    }

    #[test]
    fn two_translators_are_as_strict_as_the_stricter() {
        let home = Access {
            mapping: Independent,
            filtering: AddressAndPort,
        };
        let carrier = Access {
            mapping: AddressAndPort,
            filtering: Independent,
        };
        let both = Access {
            mapping: AddressAndPort,
            filtering: AddressAndPort,
        };
        assert_eq!(home.and(carrier), both);
    }
}
