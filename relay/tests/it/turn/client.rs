//! A TURN client of another implementation, on a socket.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use suora_protocol::wire::grant::Grant;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use turn_client_proto::api::{Transmit, TurnClientApi as _, TurnConfig, TurnEvent, TurnRecvRet};
use turn_client_proto::prelude::DelayedTransmitBuild as _;
use turn_client_proto::types::stun::TransportType;
use turn_client_proto::types::stun::message::IntegrityAlgorithm;
use turn_client_proto::types::{Instant as Moment, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use super::{HERE, Server};
use crate::rig::PATIENCE;

const UDP: TransportType = TransportType::Udp;

pub(crate) struct Client {
    socket: UdpSocket,
    turn: TurnClientUdp,
    began: Instant,
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl Client {
    pub(crate) async fn new(server: &Server, grant: &Grant, sha256: bool) -> Self {
        Self::at(server.at, grant, sha256).await
    }

    pub(crate) async fn at(server: SocketAddr, grant: &Grant, sha256: bool) -> Self {
        let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
        let user = TurnCredentials::new(&grant.user, &grant.password);
        let mut config = TurnConfig::new(user);
        config.set_supported_integrity(match sha256 {
            true => IntegrityAlgorithm::Sha256,
            false => IntegrityAlgorithm::Sha1,
        });
        let local = socket.local_addr().unwrap();
        Self {
            turn: TurnClientUdp::allocate(local, server, config),
            socket,
            began: Instant::now(),
            received: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment::from_std(self.began)
    }

    /// Until something happens, for so long at most.
    async fn event(&mut self, wait: Duration) -> Option<TurnEvent> {
        let end = Instant::now() + wait;
        loop {
            if let Some(event) = self.turn.poll_event() {
                return Some(event);
            }
            self.step(end).await?;
        }
    }

    /// Sends what is to be sent, and takes one packet or lets a moment pass.
    async fn step(&mut self, end: Instant) -> Option<()> {
        let now = self.now();
        let _ = self.turn.poll(now);
        while let Some(out) = self.turn.poll_transmit(now) {
            self.socket.send_to(&out.data, out.to).await.unwrap();
        }
        if Instant::now() > end {
            return None;
        }
        let mut buffer = [0; 2_048];
        let beat = Duration::from_millis(20);
        let Ok(heard) = timeout(beat, self.socket.recv_from(&mut buffer)).await else {
            return Some(());
        };
        let (len, from) = heard.unwrap();
        let to = self.socket.local_addr().unwrap();
        let packet = Transmit::new(buffer[..len].to_vec(), UDP, from, to);
        if let TurnRecvRet::PeerData(data) = self.turn.recv(packet, self.now()) {
            self.received.push((data.peer, data.data().to_vec()));
        }
        Some(())
    }

    /// The relayed address, or nothing if it is refused.
    pub(crate) async fn allocate(&mut self) -> Option<SocketAddr> {
        match self.event(PATIENCE).await {
            Some(TurnEvent::AllocationCreated(_, relayed)) => Some(relayed),
            Some(TurnEvent::AllocationCreateFailed(_)) => None,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn permit(&mut self, ip: IpAddr) -> bool {
        if self.turn.have_permission(UDP, ip) {
            return true;
        }
        let now = self.now();
        self.turn.create_permission(UDP, ip, now).unwrap();
        match self.event(PATIENCE).await {
            Some(TurnEvent::PermissionCreated(..)) => true,
            Some(TurnEvent::PermissionCreateFailed(..)) => false,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn bind(&mut self, peer: SocketAddr) -> bool {
        let now = self.now();
        self.turn.bind_channel(UDP, peer, now).unwrap();
        loop {
            match self.event(PATIENCE).await {
                Some(TurnEvent::ChannelCreated(..)) => return true,
                Some(TurnEvent::ChannelCreateFailed(..)) => return false,
                Some(TurnEvent::PermissionCreated(..)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, to: SocketAddr, data: &[u8]) {
        let now = self.now();
        let out = self.turn.send_to(UDP, to, data, now).unwrap();
        let out = out.unwrap();
        let bytes = out.data.build();
        self.socket.send_to(&bytes, out.to).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> (SocketAddr, Vec<u8>) {
        let end = Instant::now() + PATIENCE;
        while self.received.is_empty() {
            self.step(end).await.expect("nothing came");
        }
        self.received.remove(0)
    }

    pub(crate) async fn leave(&mut self) {
        let now = self.now();
        self.turn.delete(now).unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        while self.step(end).await.is_some() {}
    }
}
