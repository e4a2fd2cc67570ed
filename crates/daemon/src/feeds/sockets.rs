//! The two sockets that the kernel's feed and the export each have: one for what
//! happens, one for what is asked.

use std::fmt::Display;

use ipc::netlink::{self, Instruction, Socket};

/// One that hears what happens in these groups, past a filter in the kernel.
/// Beyond `net.core.rmem_max` no buffer is granted without privilege.
pub(super) fn events(
    bytes: usize,
    filter: &[Instruction],
    groups: &[u32],
) -> Result<Socket, String> {
    let socket = Socket::open(netlink::ROUTE).map_err(text)?;
    ipc::socket::set_receive_buffer(&socket, bytes).map_err(text)?;
    socket.attach_filter(filter).map_err(text)?;
    for &group in groups {
        socket.join(group).map_err(text)?;
    }
    Ok(socket)
}

/// One that asks for listings of a part, and hears refusals in words.
pub(super) fn requests() -> Result<Socket, String> {
    let socket = Socket::open(netlink::ROUTE).map_err(text)?;
    socket.set_strict_check(true).map_err(text)?;
    socket.set_extended_ack(true).map_err(text)?;
    Ok(socket)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
