//! The matrix: a pair of ends in every cell, the path that it got beside the one that the rule
//! says, and how long it took.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;

use super::cell::{Cell, Together};
use super::echo::Echo;
use super::kind::Kind;
use super::rule::Path;
use super::simulated;
use super::site::{Draft, Host, Lab, Site};
use crate::peer::Failure;

/// The time before its end in which a pair is judged by its packets.
pub const fn last_second() -> Duration {
    Duration::from_secs(1)
}

/// An end's place.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// The site.
    pub site: &'a Site,
    /// The host in it.
    pub host: &'a Host,
}

/// A pair's place in the lab: the officer's end first.
#[derive(Debug)]
pub struct Meeting<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// What answers on the relay host.
    pub echo: &'a Echo,
    /// The cell.
    pub cell: &'a Cell,
    /// A number of its own.
    pub number: u64,
    /// Where the ends sit.
    pub ends: [Seat<'a>; 2],
}

impl Meeting<'_> {
    /// What the two send to each other crosses both their wires.
    pub fn apart(&self) -> bool {
        self.cell.together == Together::Apart
    }
}

/// What came of a pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// The path at the end; `None`: they did not meet.
    pub path: Option<Path>,
    /// When both heard each other, by whatever path.
    pub connected: Option<Duration>,
    /// When both heard each other by the direct path.
    pub direct: Option<Duration>,
    /// Where what they say is not what the packets did.
    pub faults: Vec<String>,
}

/// Two ends that can be brought up in a cell.
pub trait Pair {
    /// Brings them up, and says what came of them.
    fn meet(&self, meeting: &Meeting<'_>) -> impl Future<Output = Result<Outcome, Failure>>;
}

/// A row of the matrix.
#[derive(Clone, Debug)]
pub struct Row {
    /// The cell.
    pub cell: Cell,
    /// What the rule says.
    pub expected: Path,
    /// What the model of translators says.
    pub simulated: Path,
    /// What came of it.
    pub outcome: Outcome,
}

impl Row {
    /// What is wrong with it; empty: nothing.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.outcome.faults.clone();
        if self.outcome.path != Some(self.expected) {
            let seen = self.outcome.path.map_or("nothing", Path::word);
            wrong.push(format!("expected {}, seen {seen}", self.expected.word()));
        }
        if self.simulated != self.expected {
            wrong.push(format!("the model says {}", self.simulated.word()));
        }
        wrong
    }
}

/// Which site an end sits at: cells share sites, but no end sits at two places of one.
type Place = (&'static str, u8);

/// The sites that cells need.
#[derive(Debug, Default)]
pub struct Seats {
    drafts: Vec<Draft>,
    places: BTreeMap<Place, usize>,
}

impl Seats {
    fn site(&mut self, kind: &'static Kind, role: u8, homes: u8, hosts: u8) -> usize {
        let next = self.drafts.len();
        let at = *self.places.entry((kind.name, role)).or_insert(next);
        if at == next {
            self.drafts.push(Draft {
                homes,
                hosts,
                ..Draft::of(kind)
            });
        }
        at
    }

    /// Site and host of each end of a cell.
    fn of(&mut self, cell: &Cell) -> [(usize, usize); 2] {
        match cell.together {
            Together::Apart => [
                (self.site(cell.officer, 0, 1, 1), 0),
                (self.site(cell.citizen, 1, 1, 1), 0),
            ],
            Together::Home => {
                let at = self.site(cell.officer, 2, 1, 2);
                [(at, 0), (at, 1)]
            }
            Together::Carrier => {
                let at = self.site(cell.officer, 3, 2, 1);
                [(at, 0), (at, 1)]
            }
        }
    }

    /// Drafts of all sites that these cells need.
    pub fn drafts(cells: &[Cell]) -> Vec<Draft> {
        let mut seats = Self::default();
        cells.iter().for_each(|cell| {
            seats.of(cell);
        });
        seats.drafts
    }
}

/// Runs all cells, `at_once` of them at a time, in a lab of their sites.
pub async fn run(
    lab: &Lab,
    echo: &Echo,
    cells: &[Cell],
    pair: &impl Pair,
    at_once: usize,
) -> Result<Vec<Row>, Failure> {
    let mut seats = Seats::default();
    let placed: Vec<_> = cells.iter().map(|cell| (cell, seats.of(cell))).collect();
    let rows = placed
        .into_iter()
        .zip(1_u64..)
        .map(|((cell, ends), number)| async move {
            let seat = |(site, host): (usize, usize)| {
                let site = lab.sites.get(site).ok_or("no such site")?;
                let host = site.hosts.get(host).ok_or("no such host")?;
                Ok::<_, Failure>(Seat { site, host })
            };
            let meeting = Meeting {
                lab,
                echo,
                cell,
                number,
                ends: [seat(ends[0])?, seat(ends[1])?],
            };
            let outcome = match pair.meet(&meeting).await {
                Ok(outcome) => outcome,
                Err(why) => Outcome {
                    faults: vec![why],
                    ..Outcome::default()
                },
            };
            Ok::<_, Failure>(Row {
                cell: *cell,
                expected: cell.expected(),
                simulated: simulated::run(cell).path,
                outcome,
            })
        });
    let rows = futures::stream::iter(rows).buffered(at_once.max(1));
    rows.collect::<Vec<_>>().await.into_iter().collect()
}

fn ms(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".into(), |time| format!("{}", time.as_millis()))
}

/// Prints the matrix; how many rows are wrong.
pub fn print(rows: &[Row]) -> usize {
    println!(
        "{:<46} {:<9} {:<9} {:>8} {:>8}",
        "officer × citizen", "expected", "seen", "heard ms", "direct ms"
    );
    let mut wrong = 0;
    for row in rows {
        let Outcome {
            path,
            connected,
            direct,
            ..
        } = row.outcome;
        println!(
            "{:<46} {:<9} {:<9} {:>8} {:>8}",
            row.cell.name(),
            row.expected.word(),
            path.map_or("nothing", Path::word),
            ms(connected),
            ms(direct)
        );
        let why = row.wrong();
        why.iter().for_each(|why| println!("    WRONG: {why}"));
        wrong += usize::from(!why.is_empty());
    }
    wrong
}
