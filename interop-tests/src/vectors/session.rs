//! The vectors of `spec/session.md`: the messages between guest and host.

use suora_protocol::documents;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::CHAT_MAX;
use suora_protocol::quality::{Network, Word};
use suora_protocol::wire::guest::{
    Bye, Chat, Clock, ClockAnswer, FromHost as H, Media, Quality, ToHost as G,
};
use suora_protocol::wire::path::{Candidate, Kind, Path};

use super::Vectors;
use super::cast::{Cast, at, sign};
use super::control::{GUEST_TO_HOST, HOST_TO_GUEST, broken, describe, refuse, say};
use super::raw;

/// All messages of a session.
pub fn guest() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("session", "guest", "spec/session.md, section 2");
    vectors.cddl = Some("session.cddl");
    describe(&mut vectors);
    let v = &mut vectors;
    let cast = Cast::default();
    let (to, from) = (GUEST_TO_HOST, HOST_TO_GUEST);
    let hello = G::Hello {
        hello: sign(&cast.hello()?, &cast.guest())?.bytes().to_vec(),
    };
    say(
        v,
        to,
        "hello",
        "the guest's proof: its first message",
        &hello,
    )?;
    let welcome = H::Welcome {
        welcome: sign(&cast.welcome()?, &cast.officer)?.bytes().to_vec(),
        participant: 1,
    };
    say(v, from, "welcome", "the host's proof in answer", &welcome)?;
    let accepted = H::Accepted { at: at(12) };
    say(v, from, "accepted", "the gate is open", &accepted)?;
    let chat = |id, text: &str| Chat {
        id,
        text: text.into(),
        at: at(13),
    };
    let line = chat(1, "Päivää!");
    say(
        v,
        to,
        "chat-to-host",
        "a line of text",
        &G::Chat(line.clone()),
    )?;
    say(v, from, "chat-to-guest", "a line of text", &H::Chat(line))?;
    let longest = chat(2, &"a".repeat(CHAT_MAX));
    say(
        v,
        to,
        "longest-chat",
        "4000 bytes, the bound",
        &G::Chat(longest),
    )?;
    let media = Media {
        audio: true,
        video: false,
    };
    say(
        v,
        to,
        "media-to-host",
        "the camera is off",
        &G::Media(media),
    )?;
    say(
        v,
        from,
        "media-to-guest",
        "the camera is off",
        &H::Media(media),
    )?;
    let clock = Clock { id: 1, t1: at(14) };
    say(v, to, "clock-to-host", "what time is it?", &G::Clock(clock))?;
    say(
        v,
        from,
        "clock-to-guest",
        "what time is it?",
        &H::Clock(clock),
    )?;
    let answer = ClockAnswer {
        id: 1,
        t1: at(14),
        t2: at(15).shift(250),
        t3: at(15).shift(750),
    };
    say(
        v,
        to,
        "clock-answer-to-host",
        "the answer",
        &G::ClockAnswer(answer),
    )?;
    say(
        v,
        from,
        "clock-answer-to-guest",
        "the answer",
        &H::ClockAnswer(answer),
    )?;
    let quality = |word, network| Quality { word, network };
    for (name, comment, word, network) in [
        ("quality-good", "all is well", Word::Good, Network::Good),
        (
            "quality-poor",
            "the sender hears badly, and its own network is to blame",
            Word::Poor,
            Network::Bad,
        ),
        (
            "quality-sound-only",
            "the sender gets no picture, and has no link to tell of its network",
            Word::SoundOnly,
            Network::Unknown,
        ),
    ] {
        say(v, to, name, comment, &G::Quality(quality(word, network)))?;
    }
    let fair = quality(Word::Fair, Network::Good);
    say(
        v,
        from,
        "quality-to-guest",
        "a person notices",
        &H::Quality(fair),
    )?;
    paths(v)?;
    let bye = Bye { code: Code::Ended };
    say(
        v,
        to,
        "bye-to-host",
        "the guest hangs up",
        &G::Bye(bye.clone()),
    )?;
    say(v, from, "bye-to-guest", "the host hangs up", &H::Bye(bye))?;
    broken(v, to, &documents::encode(&hello)?, "hello")?;
    let many = raw::with(&documents::encode(&welcome)?, "participant", 256)?;
    refuse(
        v,
        from,
        "participant-256",
        Code::Malformed,
        "no participant has this number",
        &many,
    )?;
    let silent = raw::without(&documents::encode(&G::Media(media))?, "audio")?;
    refuse(
        v,
        to,
        "media-without-audio",
        Code::Malformed,
        "a field is missing",
        &silent,
    )?;
    Ok(vectors)
}

/// Where an end may be reached.
fn paths(v: &mut Vectors) -> Result<(), Fault> {
    let candidate = |kind, address: &str| Candidate {
        kind,
        address: address.into(),
    };
    let relayed = Path {
        generation: 0,
        ufrag: "Kz7+".into(),
        pwd: "hR4b/Wn0cVt2sYx8Qe6uJp".into(),
        candidates: vec![candidate(Kind::Relayed, "203.0.113.1:50001")],
        end: true,
    };
    let (to, from) = (GUEST_TO_HOST, HOST_TO_GUEST);
    let before = "before the accept: relayed only";
    say(v, from, "path-relayed", before, &H::Path(relayed.clone()))?;
    let mut all = relayed.clone();
    all.candidates.extend([
        candidate(Kind::Reflexive, "198.51.100.7:40001"),
        candidate(Kind::Host, "[2001:db8::7]:5000"),
    ]);
    let after = "after the accept: all that there is";
    say(v, to, "path-all", after, &G::Path(all.clone()))?;
    all.generation = 1;
    all.candidates.remove(1);
    let moved = "the guest is on another network";
    say(v, to, "path-again", moved, &G::Path(all))?;
    let none = raw::without(&documents::encode(&G::Path(relayed))?, "pwd")?;
    let missing = "there is no password";
    refuse(v, to, "path-without-pwd", Code::Malformed, missing, &none)
}
