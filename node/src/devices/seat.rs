//! PURE: which device of a kind is in use, while devices come, go and refuse. It is told
//! what is there ([`Input::Listed`], about once a second) and how opening went, and says
//! what to open, what to close and what the person should know. The device that was asked
//! for has the seat; without a wish it is the one that worked first. While it is away the
//! first other that can be used has it, and gives it up when the owner is back.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::choice::Wish;
use super::{Named, State, Trouble, Why};

/// How long a device that refused is left alone.
pub const RETRY: Duration = Duration::from_secs(3);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// These devices are there now.
    Listed(Result<Vec<Named>, Trouble>),
    /// The device of the last [`Output::Open`] runs.
    Opened,
    /// The device of the last [`Output::Open`] cannot be used.
    Failed(Trouble),
    /// The device that ran gives nothing more.
    Lost(Trouble),
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Open this device, and answer. Where another runs, it is closed once this one is open.
    Open(Named),
    /// Close the device that ran.
    Close,
    /// Tell the person.
    Say(Said),
}

/// What a person should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// What happened.
    pub state: State,
    /// To which device.
    pub name: Option<String>,
    /// What the system says.
    pub detail: Option<String>,
}

/// What it means that devices cannot be listed.
pub(super) const fn unlisted(why: Why) -> State {
    match why {
        Why::Unbuilt => State::Unbuilt,
        _ => State::Broken,
    }
}

const fn state(why: Why) -> State {
    match why {
        Why::Gone => State::Lost,
        Why::Busy => State::Busy,
        Why::Denied => State::Denied,
        Why::Broken => State::Broken,
        Why::Unbuilt => State::Unbuilt,
    }
}

/// The seat of one kind of device.
#[derive(Debug)]
pub struct Seat {
    wish: Wish,
    /// The device that worked first.
    first: Option<String>,
    present: Vec<Named>,
    running: Option<String>,
    opening: Option<String>,
    /// Those that refused: until when each is left alone.
    refused: BTreeMap<String, Instant>,
    /// What was said last of each device, and of having none.
    said: BTreeMap<Option<String>, State>,
    out: VecDeque<Output>,
}

impl Seat {
    /// An empty seat.
    pub fn new(wish: Wish) -> Self {
        Self {
            wish,
            first: None,
            present: Vec::new(),
            running: None,
            opening: None,
            refused: BTreeMap::new(),
            said: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Listed(Ok(present)) => self.listed(now, present),
            Input::Listed(Err(trouble)) => {
                self.listed(now, Vec::new());
                self.say(unlisted(trouble.why), None, Some(trouble.detail));
                return;
            }
            Input::Opened => {
                let Some(name) = self.opening.take() else {
                    return;
                };
                self.first.get_or_insert_with(|| name.clone());
                self.refused.remove(&name);
                self.said.remove(&None);
                self.said.retain(|_, state| *state != State::Using);
                self.say(State::Using, Some(name.clone()), None);
                self.running = Some(name);
            }
            Input::Failed(trouble) => {
                let Some(name) = self.opening.take() else {
                    return;
                };
                self.refused.insert(name.clone(), now + RETRY);
                self.say(state(trouble.why), Some(name), Some(trouble.detail));
            }
            Input::Lost(trouble) => self.lost(now, trouble.why, trouble.detail),
        }
        self.decide(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The name of the device in use.
    pub fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    fn listed(&mut self, now: Instant, present: Vec<Named>) {
        // one that comes back may be tried at once
        let back = |name: &String| {
            present.iter().any(|device| device.name == *name)
                && !self.present.iter().any(|device| device.name == *name)
        };
        self.refused.retain(|name, _| !back(name));
        self.present = present;
        let away = |name: &String| !self.present.iter().any(|device| device.name == *name);
        if self.running.as_ref().is_some_and(away) {
            self.lost(now, Why::Gone, String::new());
        }
    }

    fn lost(&mut self, now: Instant, why: Why, detail: String) {
        let Some(name) = self.running.take() else {
            return;
        };
        self.out.push_back(Output::Close);
        // a list may still name one that has just been pulled out
        self.refused.insert(name.clone(), now + RETRY);
        let detail = Some(detail).filter(|detail| !detail.is_empty());
        self.say(state(why), Some(name), detail);
    }

    /// Who owns the seat.
    fn owner(&self) -> Option<&String> {
        match &self.wish {
            Wish::Name(name) => Some(name),
            Wish::Default => self.first.as_ref(),
        }
    }

    fn decide(&mut self, now: Instant) {
        if self.opening.is_some() {
            return;
        }
        self.refused.retain(|_, until| *until > now);
        let owner = self.owner();
        let usable = |device: &&Named| !self.refused.contains_key(&device.name);
        let best = self
            .present
            .iter()
            .filter(usable)
            .find(|device| Some(&device.name) == owner)
            .or_else(|| self.present.iter().find(usable))
            .cloned();
        match (best, &self.running) {
            (Some(best), Some(running)) => {
                if Some(&best.name) == owner && best.name != *running {
                    self.open(best);
                }
            }
            (Some(best), None) => self.open(best),
            (None, None) if self.present.is_empty() => self.say(State::Missing, None, None),
            (None, _) => {}
        }
    }

    fn open(&mut self, device: Named) {
        self.opening = Some(device.name.clone());
        self.out.push_back(Output::Open(device));
    }

    /// Says what is new.
    fn say(&mut self, state: State, name: Option<String>, detail: Option<String>) {
        if self.said.insert(name.clone(), state) != Some(state) {
            self.out.push_back(Output::Say(Said {
                state,
                name,
                detail,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// A seat, the devices that are plugged in, and what each answers.
    struct Desk {
        seat: Seat,
        now: Instant,
        plugged: Vec<&'static str>,
        refuse: Vec<(&'static str, Why)>,
        open: Option<String>,
        told: Vec<String>,
    }

    impl Desk {
        fn new(wish: Wish, plugged: &[&'static str]) -> Self {
            Self {
                seat: Seat::new(wish),
                now: Clock::start().now().mono,
                plugged: plugged.to_vec(),
                refuse: Vec::new(),
                open: None,
                told: Vec::new(),
            }
        }

        fn input(&mut self, input: Input) {
            self.seat.handle_input(self.now, input);
            while let Some(output) = self.seat.poll_output() {
                match output {
                    Output::Open(device) => {
                        let refused = self.refuse.iter().find(|(name, _)| *name == device.name);
                        let answer = match refused {
                            Some((_, why)) => Input::Failed(Trouble::new(*why, "no")),
                            None => {
                                self.open = Some(device.name);
                                Input::Opened
                            }
                        };
                        self.seat.handle_input(self.now, answer);
                    }
                    Output::Close => self.open = None,
                    Output::Say(said) => self.told.push(format!(
                        "{:?} {}",
                        said.state,
                        said.name.as_deref().unwrap_or("-")
                    )),
                }
            }
            assert_eq!(self.seat.running(), self.open.as_deref());
        }

        fn seconds(&mut self, count: u32) {
            for _ in 0..count {
                self.now += Duration::from_secs(1);
                let present = self.plugged.iter().map(|name| Named {
                    name: (*name).into(),
                    id: String::new(),
                });
                self.input(Input::Listed(Ok(present.collect())));
            }
        }

        fn told(&mut self) -> Vec<String> {
            std::mem::take(&mut self.told)
        }
    }

    #[test]
    fn without_a_wish_the_first_that_works_is_used() {
        let mut desk = Desk::new(Wish::Default, &["a", "b"]);
        desk.seconds(10);
        assert_eq!(desk.told(), ["Using a"]);
        let mut desk = Desk::new(Wish::Default, &["a", "b"]);
        desk.refuse = vec![("a", Why::Broken)];
        desk.seconds(10);
        assert_eq!(desk.told(), ["Broken a", "Using b"]);
    }

    #[test]
    fn the_device_asked_for_comes_before_the_first() {
        let mut desk = Desk::new(Wish::Name("b".into()), &["a", "b"]);
        desk.seconds(3);
        assert_eq!(desk.told(), ["Using b"]);
    }

    #[test]
    fn one_that_is_pulled_out_is_replaced_and_taken_up_again_when_it_is_back() {
        for wish in [Wish::Name("a".into()), Wish::Default] {
            let mut desk = Desk::new(wish, &["a", "b"]);
            desk.seconds(2);
            desk.plugged = vec!["b"];
            desk.seconds(1);
            assert_eq!(desk.told(), ["Using a", "Lost a", "Using b"]);
            desk.plugged = vec!["a", "b"];
            desk.seconds(1);
            assert_eq!(desk.told(), ["Using a"]);
        }
    }

    #[test]
    fn with_none_left_it_waits_says_so_once_and_goes_on_when_one_comes() {
        let mut desk = Desk::new(Wish::Default, &[]);
        desk.seconds(60);
        assert_eq!(desk.told(), ["Missing -"]);
        desk.plugged = vec!["a"];
        desk.seconds(1);
        assert_eq!(desk.told(), ["Using a"]);
        desk.plugged = vec![];
        desk.seconds(60);
        assert_eq!(desk.told(), ["Lost a", "Missing -"]);
        desk.plugged = vec!["c"];
        desk.seconds(60);
        assert_eq!(desk.told(), ["Using c"]);
    }

    #[test]
    fn a_stranger_that_is_plugged_in_does_not_take_the_seat() {
        let mut desk = Desk::new(Wish::Default, &["b"]);
        desk.seconds(2);
        desk.plugged = vec!["a", "b"];
        desk.seconds(60);
        assert_eq!(desk.told(), ["Using b"]);
    }

    #[test]
    fn a_busy_device_is_named_once_and_used_once_it_is_free() {
        let mut desk = Desk::new(Wish::Default, &["a"]);
        desk.refuse = vec![("a", Why::Busy)];
        desk.seconds(60);
        assert_eq!(desk.told(), ["Busy a"]);
        desk.refuse = vec![("a", Why::Denied)];
        desk.seconds(10);
        assert_eq!(desk.told(), ["Denied a"]);
        desk.refuse.clear();
        desk.seconds(4);
        assert_eq!(desk.told(), ["Using a"]);
    }

    #[test]
    fn a_device_that_breaks_while_listed_is_left_alone_for_a_while() {
        let mut desk = Desk::new(Wish::Default, &["a", "b"]);
        desk.seconds(1);
        desk.input(Input::Lost(Trouble::new(Why::Gone, "unplugged")));
        assert_eq!(desk.told(), ["Using a", "Lost a", "Using b"]);
        desk.seconds(2);
        assert_eq!(desk.told(), Vec::<String>::new());
        desk.seconds(2);
        assert_eq!(desk.told(), ["Using a"]);
    }

    #[test]
    fn an_owner_that_is_busy_has_a_stand_in_until_it_is_free() {
        let mut desk = Desk::new(Wish::Name("a".into()), &["a", "b"]);
        desk.refuse = vec![("a", Why::Busy)];
        desk.seconds(30);
        assert_eq!(desk.told(), ["Busy a", "Using b"]);
        assert_eq!(desk.open.as_deref(), Some("b"));
        desk.refuse.clear();
        desk.seconds(4);
        assert_eq!(desk.told(), ["Using a"]);
    }

    #[test]
    fn a_build_without_devices_says_so_once() {
        let mut desk = Desk::new(Wish::Default, &[]);
        for _ in 0..5 {
            desk.input(Input::Listed(Err(Trouble::new(Why::Unbuilt, "no"))));
        }
        assert_eq!(desk.told().last().map(String::as_str), Some("Unbuilt -"));
    }
}
