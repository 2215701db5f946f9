//! DOOR: one word to the kernel's conntrack: forget everything.

use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::namespace::Namespace;
use crate::peer::Failure;

/// IPCTNL_MSG_CT_DELETE of the subsystem ctnetlink, for all (linux/netfilter/nfnetlink.h).
const DELETE: u16 = 0x0102;
/// NLM_F_REQUEST and NLM_F_ACK.
const FLAGS: u16 = 0x0005;
/// NLMSG_ERROR, which also says that all is well.
const ERROR: u16 = 2;

/// Forgets every connection and mapping in a namespace, as a router that was switched off.
pub fn flush(namespace: &Namespace) -> Result<(), Failure> {
    namespace.within(|| {
        let failed = |error: nix::Error| format!("conntrack: {error}");
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(failed)?;
        let mut message = Vec::new();
        message.extend(20_u32.to_ne_bytes());
        message.extend(DELETE.to_ne_bytes());
        message.extend(FLAGS.to_ne_bytes());
        // number and sender of the message, then family, version and resource
        message.extend([0; 12]);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty()).map_err(failed)?;
        let mut answer = [0; 256];
        let bytes = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed)?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        match bytes >= 20 && kind == ERROR && code == 0 {
            true => Ok(()),
            false => Err(format!("conntrack: the kernel says {code}")),
        }
    })?
}
