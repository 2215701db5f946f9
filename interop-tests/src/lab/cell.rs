//! PURE: the cells of the matrix: who meets whom, and the path that they must get.

use super::kind::{CROSSED, Kind, named};
use super::rule::{Path, Side, expected};

/// What two ends share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Together {
    /// Nothing but the open.
    Apart,
    /// The network behind one router.
    Home,
    /// The carrier's translator.
    Carrier,
}

/// A cell: the officer's end and the citizen's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    /// The officer's network.
    pub officer: &'static Kind,
    /// The citizen's network.
    pub citizen: &'static Kind,
    /// What they share.
    pub together: Together,
    /// The citizen hides the address.
    pub hides: bool,
}

impl Cell {
    /// For tables.
    pub fn name(&self) -> String {
        let note = match (self.together, self.hides) {
            (_, true) => " (hides)",
            (Together::Apart, _) => "",
            (Together::Home, _) => " (one home)",
            (Together::Carrier, _) => " (one carrier)",
        };
        format!("{} × {}{note}", self.officer.name, self.citizen.name)
    }

    /// Both ends, as the rule sees them: officer's, citizen's.
    pub fn sides(&self) -> [Side; 2] {
        let home = self.together == Together::Home;
        let carrier = self.together == Together::Carrier;
        let officer = self.officer.side(1, 1);
        let citizen = Side {
            relay_only: self.hides,
            ..self
                .citizen
                .side(if home { 1 } else { 2 }, if carrier { 1 } else { 2 })
        };
        [officer, citizen]
    }

    /// The path that they must get.
    pub fn expected(&self) -> Path {
        let [officer, citizen] = self.sides();
        expected(&officer, &citizen)
    }
}

fn cell(officer: &str, citizen: &str, together: Together, hides: bool) -> Result<Cell, String> {
    Ok(Cell {
        officer: named(officer)?,
        citizen: named(citizen)?,
        together,
        hides,
    })
}

/// Pairs that share something, or where somebody hides.
const SPECIAL: &[(&str, &str, Together, bool)] = &[
    ("port-restricted", "port-restricted", Together::Home, false),
    ("symmetric", "symmetric", Together::Home, false),
    ("hairpin", "hairpin", Together::Home, false),
    ("no-udp", "no-udp", Together::Home, false),
    ("carrier", "carrier", Together::Carrier, false),
    ("carrier-flat", "carrier-flat", Together::Carrier, false),
    ("thirty", "port-restricted", Together::Apart, false),
    ("public", "public", Together::Apart, true),
    ("port-restricted", "full-cone", Together::Apart, true),
];

/// Every cell: each crossed kind with each, in both roles, and the special ones.
pub fn all() -> Result<Vec<Cell>, String> {
    let mut cells = crossed(CROSSED)?;
    for (officer, citizen, together, hides) in SPECIAL {
        cells.push(cell(officer, citizen, *together, *hides)?);
    }
    Ok(cells)
}

/// The cells in which the officer can be reached without help: its address is public.
pub fn reachable() -> Result<Vec<Cell>, String> {
    let udp = CROSSED
        .iter()
        .filter(|name| named(name).is_ok_and(|kind| kind.udp));
    udp.map(|citizen| cell("public", citizen, Together::Apart, false))
        .collect()
}

/// The cells of a short run: where the rule turns, and what is special.
pub fn few() -> Result<Vec<Cell>, String> {
    let mut cells = crossed(&[
        "addr-restricted",
        "port-restricted",
        "scatter-open",
        "symmetric",
    ])?;
    let more = [
        ("public", "symmetric"),
        ("scatter-addr", "full-cone"),
        ("carrier", "addr-restricted"),
        ("carrier-strict", "port-restricted"),
        ("six-only", "dual"),
        ("six-only", "full-cone"),
        ("dual", "dual"),
        ("no-udp", "public"),
        ("only-443", "no-udp"),
        ("mtu-1280", "two-uplinks"),
    ];
    for (officer, citizen) in more {
        cells.push(cell(officer, citizen, Together::Apart, false)?);
    }
    for (officer, citizen, together, hides) in SPECIAL.iter().filter(|row| row.0 != "thirty") {
        cells.push(cell(officer, citizen, *together, *hides)?);
    }
    Ok(cells)
}

fn crossed(names: &[&str]) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for (at, officer) in names.iter().enumerate() {
        for citizen in names.iter().skip(at) {
            cells.push(cell(officer, citizen, Together::Apart, false)?);
        }
    }
    Ok(cells)
}

/// The cells that these words name, as `officer:citizen`; a kind alone means all with it.
pub fn chosen(words: &[String]) -> Result<Vec<Cell>, String> {
    let every = all()?;
    let mut cells = Vec::new();
    for word in words {
        match word.split_once(':') {
            Some((officer, citizen)) => {
                cells.push(cell(officer, citizen, Together::Apart, false)?);
            }
            None => {
                let kind = named(word)?;
                let with =
                    |cell: &&Cell| [cell.officer.name, cell.citizen.name].contains(&kind.name);
                cells.extend(every.iter().filter(with));
            }
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(officer: &str, citizen: &str, together: Together, hides: bool) -> Path {
        cell(officer, citizen, together, hides).unwrap().expected()
    }

    #[test]
    fn special_cells_get_what_is_special_about_them() {
        use Together::{Apart, Carrier, Home};
        assert_eq!(path("no-udp", "no-udp", Home, false), Path::Host);
        assert_eq!(path("symmetric", "symmetric", Home, false), Path::Host);
        assert_eq!(path("carrier", "carrier", Carrier, false), Path::Direct);
        assert_eq!(
            path("carrier-flat", "carrier-flat", Carrier, false),
            Path::Relayed
        );
        assert_eq!(
            path("carrier-flat", "carrier-flat", Apart, false),
            Path::Direct
        );
        assert_eq!(path("public", "public", Apart, true), Path::Relayed);
        assert_eq!(path("six-only", "full-cone", Apart, false), Path::Relayed);
        assert_eq!(path("dual", "dual", Apart, false), Path::Direct);
    }

    #[test]
    fn both_ways_through_the_matrix_meet_the_same_paths() {
        for cell in all().unwrap() {
            let turned = Cell {
                officer: cell.citizen,
                citizen: cell.officer,
                ..cell
            };
            assert_eq!(cell.expected(), turned.expected(), "{}", cell.name());
        }
    }

    #[test]
    fn words_choose_cells() {
        let words = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            chosen(&words)
        };
        assert_eq!(words(&["public:symmetric"]).unwrap().len(), 1);
        assert!(words(&["hairpin"]).unwrap().len() == 1);
        assert!(words(&["cone"]).is_err());
    }
}
