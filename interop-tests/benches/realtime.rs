//! The real-time table on virtual time: ours beside quinn's default controller and beside a
//! window that never moves. Ends badly where ours misses an aim.

use std::process::ExitCode;

use suora_interop::weather::table::{Controller, rows};
use suora_protocol::fault::Fault;

fn main() -> Result<ExitCode, Fault> {
    let controllers = [
        ("ours", Controller::Ours),
        ("CUBIC", Controller::Default),
        ("constant", Controller::Constant),
    ];
    let rows = rows(&controllers.map(|(_, controller)| controller), &[1, 2, 3])?;
    print!("{:<58} {:>8}", "median of three seeds", "aim");
    for (name, _) in controllers {
        print!(" {name:>10}");
    }
    println!();
    let mut missed = 0;
    for row in rows {
        let miss = !row.holds(0);
        missed += usize::from(miss);
        println!("{row}{}", if miss { "  missed" } else { "" });
    }
    println!("aims missed by ours: {missed}");
    Ok(ExitCode::from(u8::from(missed > 0)))
}
