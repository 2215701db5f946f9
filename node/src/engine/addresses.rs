//! What the engine has to do with paths (`spec/desk.md`, section 7, and `spec/setup.md`,
//! section 4): which of our addresses an invite lists, what a citizen's node tells with its
//! join, and whom the officer's allocation lets in.

use std::net::SocketAddr;

use suora_protocol::documents::{AddressPolicy, Server, TicketId, Transport};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits;
use suora_protocol::wire::citizen::ToRelay;
use suora_protocol::wire::grant::Grant;

use super::ports::{Local, Output};
use super::{Engine, Side};

impl Engine {
    /// What our endpoint is, from now on.
    pub(super) fn located(&mut self, local: Local) {
        self.local = Some(local);
        self.tell_addresses();
    }

    /// The page is known: the relays that it lists show us how they see our socket.
    pub(super) fn ask_servers(&mut self) {
        let Ok(page) = self.trust.get() else {
            return;
        };
        let servers = page.turn.iter().filter_map(|uri| Server::parse(uri));
        let by_udp = servers.filter(|server| server.transport == Transport::Udp);
        let servers: Vec<Server> = by_udp.collect();
        if !servers.is_empty() {
            self.out.push_back(Output::Servers(servers));
        }
    }

    /// A new link begins with the citizen's join, if it still wants a ticket, and with its addresses.
    pub(super) fn join(&mut self, join: Option<ToRelay>) {
        if let Some(join) = join {
            self.say_citizen(join);
        }
        self.told.clear();
        self.tell_addresses();
    }

    /// A citizen's node tells its relay where its socket is reached, after its join and when that
    /// changes.
    pub(super) fn tell_addresses(&mut self) {
        let (Side::Citizen(_), true, Some(local)) = (&self.side, self.link_up, &self.local) else {
            return;
        };
        let learned = local.learned.iter().take(limits::ADDRESSES_MAX);
        let addresses: Vec<String> = learned.map(ToString::to_string).collect();
        if addresses != self.told {
            self.told.clone_from(&addresses);
            self.say_citizen(ToRelay::Addresses { addresses });
        }
    }

    /// Our addresses, as an invite of this policy lists them. Relayed ones always have room.
    pub(super) fn listed(&self, policy: AddressPolicy) -> Result<Vec<String>, Fault> {
        let local = self
            .local
            .as_ref()
            .ok_or_else(|| Fault::new(Code::Internal).with("the endpoint does not stand yet"))?;
        let direct: &[SocketAddr] = match policy {
            AddressPolicy::Open => &local.addresses,
            AddressPolicy::AfterAccept | AddressPolicy::RelayOnly => &[],
        };
        let relayed = local.relayed.iter().take(limits::ADDRESSES_MAX / 2);
        let room = limits::ADDRESSES_MAX - relayed.len();
        let listed = direct.iter().take(room).chain(relayed);
        let listed: Vec<String> = listed.map(ToString::to_string).collect();
        match (listed.is_empty(), policy) {
            (false, _) => Ok(listed),
            (true, AddressPolicy::Open) => Err(Fault::new(Code::NoPath)
                .with("no address to be reached at; see --listen and --loopback")),
            (true, _) => Err(Fault::new(Code::NoPath).with(
                "this desk hides addresses, and the agency's relay gave no relayed address: see suora doctor, and `turn` in its descriptor",
            )),
        }
    }

    /// The relay lends us its TURN.
    pub(super) fn granted(&mut self, grant: Grant) {
        self.out.push_back(Output::Grant(grant));
    }

    /// The guest of this ticket is reached here: our allocation lets it in.
    pub(super) fn guest_at(&mut self, ticket: TicketId, addresses: &[String]) {
        let addresses = addresses.iter().filter_map(|text| text.parse().ok());
        let addresses: Vec<SocketAddr> = addresses.collect();
        if let Side::Officer(attendance) = &mut self.side {
            attendance.guest = Some((ticket, addresses));
        }
        self.let_in();
    }

    /// Lets the guest of the session in that there is.
    pub(super) fn let_in(&mut self) {
        let (Side::Officer(attendance), Some(session)) = (&self.side, &self.session) else {
            return;
        };
        if let Some((ticket, addresses)) = &attendance.guest
            && attendance.serves(*ticket)
        {
            let permit = Output::Permit(session.id, addresses.clone());
            self.out.push_back(permit);
        }
    }
}
