//! The type that every stream states in its first four bytes.

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamType {
    /// The agent logs in.
    Auth,
    /// The agent brings an endpoint online.
    Bind,
    /// The agent takes an endpoint offline.
    Unbind,
    /// The gateway hands over one visitor's connection.
    Proxy,
    /// The gateway asks the agent to restart.
    Restart,
    /// The gateway asks the agent to stop.
    Stop,
    /// The gateway asks the agent to update itself.
    Update,
    /// The agent brings a tunnel with labels online.
    BindLabeled,
    /// The agent asks who the gateway is; allowed before logging in.
    SrvInfo,
    /// The gateway ends one endpoint.
    StopTunnel,
    /// The agent changes what it said about an endpoint.
    PatchTunnelState,
    /// Beats that show that the link is alive.
    Heartbeat,
}

impl StreamType {
    /// The type with this number; `None` if there is none.
    pub const fn from_u32(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Auth,
            1 => Self::Bind,
            2 => Self::Unbind,
            3 => Self::Proxy,
            4 => Self::Restart,
            5 => Self::Stop,
            6 => Self::Update,
            7 => Self::BindLabeled,
            8 => Self::SrvInfo,
            9 => Self::StopTunnel,
            10 => Self::PatchTunnelState,
            0xffff_ffff => Self::Heartbeat,
            _ => return None,
        })
    }

    /// The number of this type.
    pub const fn as_u32(self) -> u32 {
        match self {
            Self::Auth => 0,
            Self::Bind => 1,
            Self::Unbind => 2,
            Self::Proxy => 3,
            Self::Restart => 4,
            Self::Stop => 5,
            Self::Update => 6,
            Self::BindLabeled => 7,
            Self::SrvInfo => 8,
            Self::StopTunnel => 9,
            Self::PatchTunnelState => 10,
            Self::Heartbeat => 0xffff_ffff,
        }
    }

    /// The first four bytes of a stream of this type.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.as_u32().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_type_match_both_ways() {
        for number in (0..=10).chain([u32::MAX]) {
            assert_eq!(StreamType::from_u32(number).unwrap().as_u32(), number);
        }
        for number in [11, 100, u32::MAX - 1] {
            assert_eq!(StreamType::from_u32(number), None);
        }
    }

    #[test]
    fn bytes_are_big_endian() {
        assert_eq!(StreamType::Proxy.to_bytes(), [0, 0, 0, 3]);
        assert_eq!(StreamType::Heartbeat.to_bytes(), [0xff; 4]);
    }
}
