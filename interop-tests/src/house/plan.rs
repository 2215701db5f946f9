//! The plan of the house as tables. A new room gets a line here; a new import between rooms
//! is a decision, and this is where it is written down.

/// Rooms of a crate and the rooms that each may import; `*` is all of them. A room holds all
/// modules beneath it that have no line of their own. The crate's root, whose own items are
/// everybody's, needs none.
pub type House = [(&'static str, &'static [&'static str])];

/// The crates with an import table: folder and name in paths.
pub const CRATES: &[(&str, &str)] = &[
    ("protocol", "suora_protocol"),
    ("relay", "suora_relay"),
    ("node", "suora_node"),
    ("interop-tests", "suora_interop"),
];

/// Which crates of the workspace a crate may depend on, dev-dependencies too.
pub const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("suora-protocol", &[]),
    ("suora-relay", &["suora-protocol"]),
    ("suora-node", &["suora-protocol"]),
    (
        "suora-interop",
        &["suora-protocol", "suora-relay", "suora-node"],
    ),
];

/// The import table.
pub const ROOMS: &[(&str, &House)] = &[("protocol", PROTOCOL), ("relay", RELAY), ("node", NODE)];

const GROUND: &[&str] = &["time", "fault", "redact", "limits"];
const ABOVE_IDENTITY: &[&str] = &["identity", "time", "fault", "redact", "limits"];
const ABOVE_WIRE: &[&str] = &[
    "wire",
    "documents",
    "identity",
    "time",
    "fault",
    "redact",
    "limits",
];

const PROTOCOL: &House = &[
    ("time", &[]),
    ("limits", &[]),
    ("redact", &[]),
    ("fault", &[]),
    ("quality", &[]),
    ("finding", GROUND),
    ("identity", GROUND),
    ("documents", ABOVE_IDENTITY),
    (
        "wire",
        &[
            "documents",
            "identity",
            "quality",
            "time",
            "fault",
            "redact",
            "limits",
        ],
    ),
    ("desk", ABOVE_WIRE),
    (
        "consultation",
        &[
            "quality",
            "wire",
            "documents",
            "identity",
            "time",
            "fault",
            "redact",
            "limits",
        ],
    ),
    ("media", &["time", "fault", "limits"]),
];

const RELAY: &House = &[
    ("clock", &[]),
    ("keys", &[]),
    ("config", &[]),
    ("grant", &[]),
    ("hub", &["grant"]),
    ("turn", &["grant"]),
    ("net", &["turn", "clock", "keys"]),
    ("metrics", &["hub", "turn"]),
    ("store", &["hub"]),
    ("porch", &["hub"]),
    ("control", &["hub", "config", "clock", "porch"]),
    ("http", &["hub", "metrics", "config", "porch"]),
    (
        "serve",
        &[
            "clock", "keys", "config", "grant", "hub", "metrics", "store", "control", "http",
            "turn", "net",
        ],
    ),
    ("text", &[]),
    (
        "doctor",
        &[
            "clock", "keys", "config", "control", "http", "net", "serve", "store", "text",
        ],
    ),
    ("command", &["*"]),
    ("main", &["command"]),
];

const NODE: &House = &[
    // pure: what is asked, what is seen, what is decided
    ("intent", &[]),
    ("report", &[]),
    ("view", &["report"]),
    ("text", &[]),
    ("status", &["view", "report", "text"]),
    ("path", &[]),
    ("engine", &["path", "view", "intent", "report"]),
    // doors that know nothing of a consultation
    ("clock", &[]),
    ("worker", &[]),
    ("keys", &[]),
    ("fit", &[]),
    (
        "path::socket",
        &["path", "path::interfaces", "clock", "worker"],
    ),
    ("path::interfaces", &["path"]),
    (
        "devices",
        &[
            "devices::choice",
            "devices::seat",
            "clock",
            "worker",
            "fit",
            "view",
        ],
    ),
    ("devices::choice", &["devices"]),
    ("devices::seat", &["devices", "devices::choice"]),
    (
        "devices::fake",
        &["devices", "capture", "clock", "worker", "fit"],
    ),
    ("decode", &["clock", "worker", "play", "fit"]),
    (
        "capture",
        &[
            "clock",
            "worker",
            "fit",
            "decode",
            "devices",
            "devices::choice",
            "devices::seat",
        ],
    ),
    ("encode", &["clock", "worker", "capture", "fit"]),
    (
        "play",
        &["clock", "worker", "encode", "devices", "devices::choice"],
    ),
    ("play::sheet", &["capture", "decode", "fit"]),
    ("fetch", &["engine", "clock"]),
    ("memory", &["engine", "fetch", "keys"]),
    ("link", &["engine", "clock", "worker"]),
    (
        "endpoint",
        &[
            "path",
            "path::socket",
            "engine",
            "report",
            "clock",
            "keys",
            "worker",
        ],
    ),
    ("remote", &["intent", "view", "worker"]),
    (
        "doctor",
        &[
            "clock", "endpoint", "engine", "fetch", "keys", "link", "memory", "text",
        ],
    ),
    // where sound, picture and proof come together
    (
        "session",
        &[
            "engine", "endpoint", "report", "view", "clock", "worker", "devices", "capture",
            "encode", "decode", "play",
        ],
    ),
    (
        "config",
        &[
            "devices",
            "devices::choice",
            "capture",
            "endpoint",
            "engine",
            "fetch",
        ],
    ),
    ("run", &["*"]),
    ("command", &["*"]),
    ("main", &["command"]),
];

/// Rooms that are pure, beside all of `protocol`.
pub const PURE: &[(&str, &str)] = &[
    ("relay", "hub"),
    ("relay", "text"),
    ("relay", "grant"),
    ("relay", "turn"),
    ("node", "engine"),
    ("node", "path"),
    ("node", "intent"),
    ("node", "view"),
    ("node", "report"),
    ("node", "status"),
    ("node", "text"),
    ("node", "fit"),
    ("node", "devices::choice"),
    ("node", "devices::seat"),
];

/// What a pure room never names.
pub const PURE_NEVER: &[&str] = &[
    "std::fs",
    "std::path",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "std::net::UdpSocket",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::time::SystemTime",
    "tokio",
    "futures",
    "getrandom",
    "nix",
    "socket2",
    "libc",
];

/// Foreign names that stay at their doors: crate or path, and the rooms that may name it.
pub const FOREIGN: &[(&str, &[(&str, &str)])] = &[
    ("libp2p", &[("relay", "control"), ("node", "link")]),
    ("libp2p_stream", &[("node", "link")]),
    // libp2p calls its own by the same name
    ("yamux", &[("relay", "control"), ("node", "link")]),
    (
        "libp2p_identity",
        &[
            ("protocol", "identity"),
            ("relay", "control"),
            ("node", "link"),
        ],
    ),
    (
        "quinn",
        &[
            ("node", "endpoint"),
            ("node", "session"),
            ("node", "path::socket"),
            ("relay", "control"),
        ],
    ),
    ("socket2", &[("relay", "control"), ("relay", "net")]),
    (
        "stun_types",
        &[("node", "path"), ("relay", "turn"), ("relay", "net")],
    ),
    ("hmac", &[("relay", "grant")]),
    ("sha1", &[("relay", "grant")]),
    ("quinn_proto", &[("node", "endpoint"), ("node", "session")]),
    ("quinn_udp", &[("node", "path::socket"), ("relay", "net")]),
    ("if_watch", &[("node", "path::interfaces")]),
    (
        "web_transport_quinn",
        &[("node", "endpoint"), ("node", "session")],
    ),
    ("rcgen", &[("node", "endpoint")]),
    (
        "rustls",
        &[
            ("node", "endpoint"),
            ("node", "fetch"),
            // each program chooses the provider first
            ("node", "command"),
            ("relay", "command"),
            ("relay", "doctor"),
        ],
    ),
    ("pkcs8", &[("relay", "keys")]),
    ("rpassword", &[("relay", "keys")]),
    ("sqlx", &[("relay", "store")]),
    ("axum", &[("relay", "http")]),
    ("tower_http", &[("relay", "http")]),
    (
        "hyper",
        &[("node", "fetch"), ("relay", "http"), ("relay", "doctor")],
    ),
    (
        "hyper_util",
        &[("node", "fetch"), ("relay", "http"), ("relay", "doctor")],
    ),
    ("hyper_rustls", &[("node", "fetch"), ("relay", "doctor")]),
    ("prometheus_client", &[("relay", "metrics")]),
    ("openh264", &[("node", "encode"), ("node", "decode")]),
    (
        "opus",
        &[
            ("node", "encode"),
            ("node", "decode"),
            ("node", "capture"),
            ("node", "play"),
        ],
    ),
    ("cpal", &[("node", "devices")]),
    ("alsa", &[("node", "devices")]),
    ("moq_v4l", &[("node", "devices")]),
    ("zune_jpeg", &[("node", "devices")]),
    ("sonora", &[("node", "capture")]),
    ("coset", &[("protocol", "documents")]),
    ("ciborium", &[("protocol", "documents")]),
    ("ed25519_dalek", &[("protocol", "identity")]),
    ("hkdf", &[("protocol", "identity")]),
    ("rtp_types", &[("protocol", "media")]),
    ("rtcp_types", &[("protocol", "media")]),
    ("getrandom", &[("relay", "keys"), ("node", "keys")]),
    ("clap", &[("relay", "command"), ("node", "command")]),
];

/// Doors: files that may name a clock, entropy, a socket or a thread, and how each says so.
pub const DOORS: &[(&str, &str)] = &[
    ("relay/src/clock.rs", "clock"),
    ("relay/src/keys.rs", "entropy"),
    ("relay/src/http.rs", "listening sockets"),
    ("relay/src/control/quic.rs", "listening sockets"),
    ("relay/src/net/udp.rs", "shards: threads and sockets"),
    ("relay/src/net/probe.rs", "a socket that asks"),
    ("relay/src/turn/table.rs", "a table that is only looked up"),
    (
        "relay/src/turn/policy.rs",
        "the base of virtual time in tests",
    ),
    (
        "relay/src/turn/strangers.rs",
        "the base of virtual time in tests",
    ),
    (
        "relay/src/turn/tests.rs",
        "the base of virtual time in tests",
    ),
    ("node/src/clock.rs", "clock"),
    ("node/src/keys.rs", "entropy"),
    ("node/src/worker.rs", "threads"),
    ("node/src/path/socket.rs", "sockets"),
    ("node/src/remote.rs", "local socket"),
    ("node/src/remote/client.rs", "sockets and clock"),
    ("node/src/command/demo.rs", "free ports, sockets"),
    // tests: one base moment, from which each steps its own clock
    ("protocol/src/media.rs", "the base of virtual time in tests"),
    (
        "protocol/tests/it/clock.rs",
        "the base of virtual time in tests",
    ),
    ("protocol/benches/media.rs", "the base of virtual time"),
    (
        "node/src/session/alive.rs",
        "the base of virtual time in tests",
    ),
    (
        "node/src/path/tests.rs",
        "the base of virtual time in tests",
    ),
    ("node/tests/it/fetch.rs", "sockets of the test"),
    ("node/tests/it/link.rs", "sockets of the test"),
    ("node/tests/it/remote.rs", "sockets of the test"),
    ("node/tests/it/turn.rs", "sockets of the test"),
    (
        "relay/tests/it/rig.rs",
        "free ports, sockets and the deadlines of real processes",
    ),
    ("relay/tests/it/doctor.rs", "a web server"),
    (
        "relay/tests/it/turn.rs",
        "clients, peers and the clock of the test",
    ),
    ("relay/src/net/batch.rs", "sockets of the tests"),
    ("relay/tests/it/stage.rs", "the base of the virtual clock"),
    (
        "relay/benches/hub.rs",
        "the base of the virtual clock, and a runtime for the real loop",
    ),
    (
        "interop-tests/tests/it/doctor.rs",
        "a port that somebody else has",
    ),
    (
        "interop-tests/tests/it/setup.rs",
        "a socket that takes what a guest sends",
    ),
    (
        "node/src/endpoint/congestion.rs",
        "a moment for quinn's API",
    ),
    ("interop-tests/src/world.rs", "the base of virtual time"),
    (
        "interop-tests/src/weather/wire.rs",
        "the base of virtual time",
    ),
    ("interop-tests/src/fuzz/turn.rs", "the base of virtual time"),
    ("interop-tests/src/live/wire.rs", "sockets and clock"),
    ("interop-tests/src/lab.rs", "clock"),
    (
        "interop-tests/src/lab/namespace.rs",
        "namespaces, threads in them and their sockets",
    ),
    (
        "interop-tests/src/lab/emulator.rs",
        "packet sockets, a thread and clock",
    ),
    ("interop-tests/src/lab/prove.rs", "clock"),
    ("interop-tests/src/lab/gap.rs", "clock"),
    ("interop-tests/src/lab/raw.rs", "clock"),
    ("interop-tests/src/lab/nodes.rs", "clock"),
    ("interop-tests/src/flood.rs", "sockets and clock"),
    (
        "interop-tests/src/relaying.rs",
        "sockets, processes and clock",
    ),
    ("interop-tests/src/repeater.rs", "sockets"),
    ("interop-tests/src/flood/strangers.rs", "sockets and clock"),
    (
        "interop-tests/src/fuzz/packets.rs",
        "the base of virtual time",
    ),
    (
        "interop-tests/src/vectors/quality.rs",
        "the base of virtual time",
    ),
];

/// Files whose module doc begins with `DOOR:`; a folder counts with its front page.
pub const DOOR_ROOMS: &[&str] = &[
    "relay/src/clock",
    "relay/src/keys",
    "relay/src/control",
    "relay/src/control/quic",
    "relay/src/net",
    "relay/src/store",
    "relay/src/http",
    "relay/src/http/local",
    "node/src/clock",
    "node/src/keys",
    "node/src/worker",
    "node/src/remote",
    "node/src/link",
    "node/src/fetch",
    "node/src/memory",
    "node/src/path/interfaces",
    "node/src/path/socket",
    "node/src/endpoint",
    "node/src/session",
    "node/src/devices",
    "node/src/capture",
    "node/src/encode",
    "node/src/decode",
    "node/src/play",
    "node/src/command/demo",
    "interop-tests/src/live/wire",
    "interop-tests/src/flood",
    "interop-tests/src/relaying",
    "interop-tests/src/lab",
    "interop-tests/src/repeater",
    "interop-tests/src/peer",
    "relay/tests/it/rig",
];

/// Where unsafe code may be: the codecs' raw calls.
pub const UNSAFE_ROOMS: &[&str] = &["node/src/encode", "node/src/decode"];

/// Rooms that read bytes from outside: their front pages deny [`PANICS`] to all beneath.
pub const READERS: &[&str] = &[
    "protocol/src/documents",
    "protocol/src/wire",
    "protocol/src/media",
    "relay/src/control/streams",
    "relay/src/control/muxer",
    "relay/src/turn",
];

/// Lints against what bad bytes could make panic.
pub const PANICS: &[&str] = &["unwrap_used", "expect_used", "panic", "indexing_slicing"];

/// Files of the node beside `worker` that may make or name a bounded channel of tokio.
pub const QUEUES: &[&str] = &["node/src/worker.rs"];

/// The longest a file may be without saying why.
pub const LINES_MAX: usize = 600;

/// What lies at the workspace's top level; the second list may be absent.
pub const TOP: (&[&str], &[&str]) = (
    &[
        ".cargo",
        ".ci",
        ".deny.toml",
        ".gitignore",
        ".rustfmt.toml",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Makefile",
        "README.md",
        "interop-tests",
        "node",
        "protocol",
        "relay",
        "spec",
    ],
    &[".config", ".git", "target"],
);

/// Words that name the place where somebody worked, not the project.
pub const WORKPLACE: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("crates", ".io"),
    concat!("py", "pi.org"),
    concat!("npm", "js."),
];
