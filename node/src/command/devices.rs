//! `suora devices`: the cameras, microphones and loudspeakers that can be chosen.

use std::sync::Arc;

use clap::Args;
use suora_protocol::fault::{Code, Fault};

use crate::devices::fake::Fake;
use crate::devices::{self, Backend, List, Named, Trouble, Why};
use crate::text::{Texts, plain};

/// List the cameras, microphones and loudspeakers that can be chosen.
#[derive(Debug, Args)]
pub struct Devices {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Where devices come from: this machine, or the list of `SUORA_DEVICES`.
pub(super) fn backend() -> Result<Arc<dyn Backend>, Fault> {
    Ok(match Fake::from_env()? {
        Some(fake) => Arc::new(fake),
        None => devices::real(),
    })
}

impl Devices {
    /// Prints the list. A machine without devices is no fault.
    pub(super) fn run(self, texts: &Texts) -> Result<(), Fault> {
        let listed = backend()?.list();
        if self.json {
            let list = listed.unwrap_or_default();
            let json = serde_json::to_string_pretty(&list)
                .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
            println!("{json}");
        } else {
            println!("{}", shown(&listed, texts));
        }
        Ok(())
    }
}

/// The list, for people.
fn shown(listed: &Result<List, Trouble>, texts: &Texts) -> String {
    let list = match listed {
        Ok(list) => list,
        Err(trouble) if trouble.why == Why::Unbuilt => return texts.get("devices-unbuilt"),
        Err(trouble) => return texts.with("devices-unlisted", &[("detail", &trouble.detail)]),
    };
    let parts = [
        part(
            texts.get("devices-cameras"),
            &list.cameras,
            texts.get("devices-no-camera"),
            texts,
        ),
        part(
            texts.get("devices-microphones"),
            &list.microphones,
            texts.get("devices-no-microphone"),
            texts,
        ),
        part(
            texts.get("devices-speakers"),
            &list.speakers,
            texts.get("devices-no-speaker"),
            texts,
        ),
    ];
    parts.join("\n")
}

fn part(title: String, devices: &[Named], none: String, texts: &Texts) -> String {
    let mut lines = vec![title];
    for (n, device) in devices.iter().enumerate() {
        let name = match n {
            0 => texts.with("devices-default", &[("name", &device.name)]),
            _ => plain(&device.name).into_owned(),
        };
        lines.push(format!("  {name}"));
    }
    if devices.is_empty() {
        lines.push(format!("  {none}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(text: &str) -> Result<List, Trouble> {
        Fake::new(serde_json::from_str(text).unwrap()).list()
    }

    #[test]
    fn what_there_is_is_listed_by_kind_and_what_is_missing_is_said() {
        let list = fake(r#"{"cameras": [{"name": "Front"}, {"name": "Back"}]}"#);
        assert_eq!(
            shown(&list, &Texts::new("en")),
            "Cameras (--camera)\n  Front (used by default)\n  Back\n\
             Microphones (--mic)\n  none found; without one nobody hears you\n\
             Loudspeakers (--speaker)\n  none found; without one you hear nobody"
        );
    }

    #[test]
    fn a_build_without_devices_says_so() {
        let text = shown(&Err(Trouble::new(Why::Unbuilt, "")), &Texts::new("en"));
        assert!(text.contains("built without devices"), "{text}");
    }
}
