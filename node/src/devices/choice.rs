//! PURE: which device a person means. A name is taken whole, or a part of it that only one
//! device has; letters may be small or large.

use std::str::FromStr;

use super::Named;

/// What a person wants of a kind of device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// The first that can be used.
    Default,
    /// This one; while it is away, the first that can be used.
    Name(String),
}

/// A wish that a person typed, or none: `none`, `default`, or a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Typed(pub Option<Wish>);

impl FromStr for Typed {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text {
            "none" => None,
            "default" => Some(Wish::Default),
            name => Some(Wish::Name(name.into())),
        }))
    }
}

/// The device that is meant, or what is wrong with the name, with the names that exist.
pub fn choose<'a>(devices: &'a [Named], text: &str) -> Result<&'a Named, String> {
    let wanted = text.to_lowercase();
    let ways: [&dyn Fn(&str) -> bool; 3] = [
        &|name| name == wanted,
        &|name| name.starts_with(&wanted),
        &|name| name.contains(&wanted),
    ];
    for way in ways {
        let found: Vec<_> = devices
            .iter()
            .filter(|device| way(&device.name.to_lowercase()) || way(&device.id.to_lowercase()))
            .collect();
        match found.as_slice() {
            [] => {}
            [device] => return Ok(device),
            [_, ..] => return Err(format!("“{text}” may be {}", quoted(found.into_iter()))),
        }
    }
    if devices.is_empty() {
        return Err(format!("“{text}” is not there, and no other is"));
    }
    Err(format!(
        "“{text}” is not there; there is {}",
        quoted(devices.iter())
    ))
}

fn quoted<'a>(devices: impl Iterator<Item = &'a Named>) -> String {
    let names: Vec<_> = devices.map(|device| format!("“{}”", device.name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(names: &[&str]) -> Vec<Named> {
        let named = |(n, name): (usize, &&str)| Named {
            name: (*name).into(),
            id: format!("/dev/video{n}"),
        };
        names.iter().enumerate().map(named).collect()
    }

    fn chosen(names: &[&str], text: &str) -> Result<String, String> {
        choose(&devices(names), text).map(|device| device.name.clone())
    }

    #[test]
    fn a_name_or_a_part_that_only_one_has_is_enough() {
        let names = ["Integrated Camera", "Logitech C920", "Camera"];
        for (text, name) in [
            ("Logitech C920", "Logitech C920"),
            ("logi", "Logitech C920"),
            ("c920", "Logitech C920"),
            ("integrated", "Integrated Camera"),
            // whole before begin before part
            ("camera", "Camera"),
            ("/dev/video1", "Logitech C920"),
        ] {
            assert_eq!(chosen(&names, text).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn an_unknown_or_ambiguous_name_lists_what_there_is() {
        let names = ["Webcam A", "Webcam B"];
        assert_eq!(
            chosen(&names, "web").unwrap_err(),
            "“web” may be “Webcam A”, “Webcam B”"
        );
        assert_eq!(
            chosen(&names, "tv").unwrap_err(),
            "“tv” is not there; there is “Webcam A”, “Webcam B”"
        );
        assert_eq!(
            chosen(&[], "tv").unwrap_err(),
            "“tv” is not there, and no other is"
        );
    }
}
