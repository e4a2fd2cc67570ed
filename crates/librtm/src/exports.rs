//! The functions of `rtm.h`, in its order. See the crate's head for why they are
//! sound; each stands in the header with what it takes and gives.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rtm_client::model::{Family, GroupId, LinkId, Mac, NeighbourKey};
use rtm_client::{Address as Place, Changes, Mapped, MappedConfig, Reader, Waited, WriterState};

use crate::failure::{ARGUMENT, CODES, Failure, INTERNAL, INTERRUPTED, SYSTEM};
use crate::handle::{Handle, failed, guarded, of_panic, text_of, thread_error};
use crate::types::{
    Answer, Event, Hop, LinkEntry, NeighbourEntry, OPEN_EVENTS, OPEN_FUTEX, OPEN_LATER, Options,
    RouteEntry, Span, State, family,
};

type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

const FOUND: c_int = 1;
const NOTHING: c_int = 0;

/// The longest name that the daemon takes.
const NAME_BYTES_MAX: usize = 64;

// ---- Opening --------------------------------------------------------------

#[unsafe(no_mangle)]
extern "C" fn rtm_open(out: Out<'_, *mut Handle>, options: *const Options) -> c_int {
    let Some(out) = out else { return failed(&Failure::null("handle")) };
    out.write(core::ptr::null_mut());
    // SAFETY: null, or a structure whose first member says how long it is.
    let opened = catch_unwind(AssertUnwindSafe(|| unsafe { options_of(options) }.and_then(open)));
    match opened {
        Ok(Ok(handle)) => {
            out.write(Box::into_raw(Box::new(handle)));
            0
        }
        Ok(Err(failure)) => failed(&failure),
        Err(panic) => failed(&of_panic(&*panic)),
    }
}

/// What is asked for: where, and how.
struct Wish {
    place: rtm_client::Place,
    config: MappedConfig,
}

fn open(wish: Wish) -> Result<Handle, Failure> {
    let address = wish.place.find();
    let address = match address {
        Ok(address) => address,
        // It may come to where its directory is going to be.
        Err(_) if wish.config.later => {
            Place::Unix(format!("{}/rtm.sock", rtm_client::SYSTEM_DIRECTORY).into())
        }
        Err(error) => return Err(error.into()),
    };
    if let Place::Tcp(text, _) = &address {
        return Err(Failure::new(
            ARGUMENT,
            format!("tcp://{text}: shared memory needs the daemon's Unix socket"),
        ));
    }
    Handle::new(Mapped::open(&address, wish.config)?)
}

/// # Safety
/// `options` is null or points to so many bytes as its first member says.
unsafe fn options_of(options: *const Options) -> Result<Wish, Failure> {
    let mut known = Options {
        size: 0,
        socket: core::ptr::null(),
        runtime_dir: core::ptr::null(),
        name: core::ptr::null(),
        flags: 0,
        timeout_ms: 0,
    };
    if !options.is_null() {
        // SAFETY: the caller's structure has at least this member.
        let size = unsafe { (&raw const (*options).size).read() };
        if !(size_of::<usize>()..=4096).contains(&size) {
            return Err(Failure::new(
                ARGUMENT,
                format!("options.size is {size}; sizeof(struct rtm_options) would be right"),
            ));
        }
        let len = size.min(size_of::<Options>());
        // SAFETY: the caller's structure has `size` bytes, of which as many are
        // copied as ours has: integers and pointers, for which all bytes are valid.
        unsafe {
            core::ptr::copy_nonoverlapping(
                options.cast::<u8>(),
                (&raw mut known).cast::<u8>(),
                len,
            );
        }
        // What a newer program sets and this library doesn't know must not be
        // passed over in silence.
        // SAFETY: `size` bytes are the caller's, `len` of them are ours.
        let more = unsafe {
            core::slice::from_raw_parts(options.cast::<u8>().wrapping_add(len), size - len)
        };
        if more.iter().any(|&byte| byte != 0) {
            return Err(Failure::new(
                ARGUMENT,
                "options has a member that this librtm doesn't know; a newer one would be right",
            ));
        }
    }
    // SAFETY: null or strings of the caller's, which live for this call.
    let (socket, directory, name) = unsafe {
        (
            text_of(known.socket, "options.socket")?,
            text_of(known.runtime_dir, "options.runtime_dir")?,
            text_of(known.name, "options.name")?,
        )
    };
    let all = OPEN_EVENTS | OPEN_FUTEX | OPEN_LATER;
    let flags = known.flags;
    if flags & !all != 0 {
        return Err(Failure::new(
            ARGUMENT,
            format!("options.flags: {:#x} is no flag", flags & !all),
        ));
    }
    let changes = match (flags & OPEN_EVENTS != 0, flags & OPEN_FUTEX != 0) {
        (false, false) => Changes::No,
        (true, false) => Changes::Pipe,
        (true, true) => Changes::Futex,
        (false, true) => {
            return Err(Failure::new(
                ARGUMENT,
                "options.flags: RTM_OPEN_FUTEX goes with RTM_OPEN_EVENTS",
            ));
        }
    };
    let name = name.unwrap_or("librtm").to_owned();
    if name.len() > NAME_BYTES_MAX {
        return Err(Failure::new(
            ARGUMENT,
            format!(
                "options.name has {} bytes; at most {NAME_BYTES_MAX} would be right",
                name.len()
            ),
        ));
    }
    let timeout = match known.timeout_ms {
        0 => rtm_client::CONNECT_TIMEOUT,
        ms @ 1.. => Duration::from_millis(ms as u64),
        ms => {
            return Err(Failure::new(ARGUMENT, format!("options.timeout_ms is {ms}; 0 or more")));
        }
    };
    let mut place = rtm_client::Place::from_environment();
    place.socket = socket.map(str::to_owned);
    place.directory = directory.map(Into::into);
    let config = MappedConfig { name, changes, later: flags & OPEN_LATER != 0, timeout };
    Ok(Wish { place, config })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_close(handle: *mut Handle) {
    if handle.is_null() {
        return;
    }
    // Should it panic, something of it stays: nobody could be told.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: made by `rtm_open`, and not closed before.
        unsafe { &*handle }.wait_for_waiter();
        // SAFETY: as before; and by the header's word nobody used it any more but
        // the thread in `rtm_wait`, which has come out.
        unsafe { Box::from_raw(handle) }.close();
    }));
}

#[unsafe(no_mangle)]
extern "C" fn rtm_error(handle: Option<&Handle>) -> *const c_char {
    handle.map_or_else(thread_error, Handle::error)
}

#[unsafe(no_mangle)]
extern "C" fn rtm_code_name(code: c_int) -> *const c_char {
    let name = CODES.iter().find(|known| known.0 == code).map_or(c"unknown", |known| known.1);
    name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn rtm_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

// ---- Looking up -----------------------------------------------------------

fn found<T>(out: &mut MaybeUninit<T>, value: Option<T>) -> Result<c_int, Failure> {
    Ok(match value {
        Some(value) => {
            out.write(value);
            FOUND
        }
        None => NOTHING,
    })
}

#[inline]
fn answered(
    out: &mut MaybeUninit<Answer>,
    answer: Result<Option<rtm_client::Answer>, rtm_client::Busy>,
) -> Result<c_int, Failure> {
    let answer = answer.inspect_err(|_| {
        out.write(Answer::default());
    })?;
    out.write(answer.into());
    Ok(c_int::from(answer.is_some()))
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup4(handle: Option<&Handle>, address: u32, out: Out<'_, Answer>) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("answer"))?;
        answered(out, inner.tables()?.lookup4(Ipv4Addr::from(u32::from_be(address))))
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup6(
    handle: Option<&Handle>,
    address: Option<&[u8; 16]>,
    out: Out<'_, Answer>,
) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("answer"))?;
        let address = address.ok_or_else(|| Failure::null("address"))?;
        answered(out, inner.tables()?.lookup6(Ipv6Addr::from(*address)))
    })
}

/// Addresses that are turned around and looked up at a time.
const CHUNK: usize = 64;

/// `count` things of the caller's at `at`.
///
/// # Safety
/// `at` is null, or `count` things that nobody changes stand there for `'a`.
unsafe fn array<'a, T>(at: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    match (at.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::null(what)),
        // SAFETY: not null, and the caller's promise.
        (false, _) => Ok(unsafe { core::slice::from_raw_parts(at, count) }),
    }
}

/// Room for `count` things at `at`.
///
/// # Safety
/// `at` is null, or there is room that is the callee's alone for `'a`.
unsafe fn room<'a, T>(
    at: *mut MaybeUninit<T>,
    count: usize,
    what: &str,
) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    match (at.is_null(), count) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Failure::null(what)),
        // SAFETY: not null, and the caller's promise.
        (false, _) => Ok(unsafe { core::slice::from_raw_parts_mut(at, count) }),
    }
}

/// Looks `addresses` up a chunk at a time.
fn batch<A: Copy, B: Copy + Default>(
    image: &Reader,
    addresses: &[A],
    out: &mut [MaybeUninit<Answer>],
    host: impl Fn(A) -> B,
    look: impl Fn(&Reader, &[B], &mut [Option<rtm_client::Answer>]) -> Result<(), rtm_client::Busy>,
) -> Result<c_int, Failure> {
    let (mut turned, mut answers) = ([B::default(); CHUNK], [None; CHUNK]);
    for (addresses, out) in addresses.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        let count = addresses.len();
        for (turned, address) in turned.iter_mut().zip(addresses) {
            *turned = host(*address);
        }
        look(image, &turned[..count], &mut answers[..count])?;
        for (out, answer) in out.iter_mut().zip(&answers) {
            out.write((*answer).into());
        }
    }
    Ok(0)
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup4_batch(
    handle: Option<&Handle>,
    addresses: *const u32,
    out: *mut MaybeUninit<Answer>,
    count: usize,
) -> c_int {
    guarded(handle, |inner| {
        // SAFETY: the header asks for `count` of each.
        let (addresses, out) =
            unsafe { (array(addresses, count, "addresses")?, room(out, count, "answers")?) };
        batch(inner.tables()?, addresses, out, u32::from_be, Reader::lookup4_batch)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup6_batch(
    handle: Option<&Handle>,
    addresses: *const [u8; 16],
    out: *mut MaybeUninit<Answer>,
    count: usize,
) -> c_int {
    guarded(handle, |inner| {
        // SAFETY: the header asks for `count` of each.
        let (addresses, out) =
            unsafe { (array(addresses, count, "addresses")?, room(out, count, "answers")?) };
        batch(inner.tables()?, addresses, out, u128::from_be_bytes, Reader::lookup6_batch)
    })
}

/// The address of a family and a pointer.
///
/// # Safety
/// `address` is null, or points to as many bytes as the family's addresses have.
unsafe fn address_of(number: c_int, address: *const c_void) -> Result<IpAddr, Failure> {
    let Some(family) = family(number) else {
        return Err(Failure::new(
            ARGUMENT,
            format!("{number} is no family; AF_INET (2) or AF_INET6 (10) would be right"),
        ));
    };
    if address.is_null() {
        return Err(Failure::null("address"));
    }
    // SAFETY: not null, and the caller's promise; bytes need no alignment.
    Ok(unsafe {
        match family {
            Family::V4 => Ipv4Addr::from(address.cast::<[u8; 4]>().read()).into(),
            Family::V6 => Ipv6Addr::from(address.cast::<[u8; 16]>().read()).into(),
        }
    })
}

/// What the lookups in any table have in common.
///
/// # Safety
/// `address` is null, or points to as many bytes as the family's addresses have.
unsafe fn lookup_in<T>(
    handle: Option<&Handle>,
    (family, address): (c_int, *const c_void),
    (out, name): (Out<'_, T>, &str),
    look: impl FnOnce(&Reader, IpAddr, &mut MaybeUninit<T>) -> Result<c_int, Failure>,
) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null(name))?;
        // SAFETY: the caller's promise.
        let address = unsafe { address_of(family, address)? };
        look(inner.tables()?, address, out)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup(
    handle: Option<&Handle>,
    table: u32,
    family: c_int,
    address: *const c_void,
    out: Out<'_, Answer>,
) -> c_int {
    // SAFETY: an address of that family, says the header.
    unsafe {
        lookup_in(handle, (family, address), (out, "answer"), |tables, address, out| {
            answered(out, tables.lookup(table, address))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup_hop(
    handle: Option<&Handle>,
    table: u32,
    family: c_int,
    address: *const c_void,
    flow_hash: u32,
    out: Out<'_, Answer>,
    hop: Out<'_, Hop>,
) -> c_int {
    // SAFETY: an address of that family, says the header.
    unsafe {
        lookup_in(handle, (family, address), (out, "answer"), |tables, address, out| {
            let hop = hop.ok_or_else(|| Failure::null("hop"))?;
            let found = tables.lookup_hop(table, address, flow_hash)?;
            let of_flow = found.and_then(|found| found.1);
            hop.write(of_flow.as_ref().map_or(Hop::default(), Hop::from));
            answered(out, Ok(found.map(|found| found.0)))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn rtm_lookup_route(
    handle: Option<&Handle>,
    table: u32,
    family: c_int,
    address: *const c_void,
    out: Out<'_, RouteEntry>,
) -> c_int {
    // SAFETY: an address of that family, says the header.
    unsafe {
        lookup_in(handle, (family, address), (out, "route"), |tables, address, out| {
            found(out, tables.lookup_route(table, address)?.as_ref().map(RouteEntry::from))
        })
    }
}

/// As many as there is room for; says how many there are.
fn several<T>(out: &mut [MaybeUninit<T>], values: impl ExactSizeIterator<Item = T>) -> c_int {
    let count = c_int::try_from(values.len()).unwrap_or(c_int::MAX);
    for (out, value) in out.iter_mut().zip(values) {
        out.write(value);
    }
    count
}

#[unsafe(no_mangle)]
extern "C" fn rtm_group(
    handle: Option<&Handle>,
    group: u32,
    hops: *mut MaybeUninit<Hop>,
    capacity: usize,
) -> c_int {
    guarded(handle, |inner| {
        // SAFETY: the header asks for so much room.
        let out = unsafe { room(hops, capacity, "hops")? };
        let group = inner.tables()?.group(GroupId(group))?;
        let hops = group.as_ref().map_or(&[][..], |group| &group.hops);
        Ok(several(out, hops.iter().map(Hop::from)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_link(handle: Option<&Handle>, id: u32, out: Out<'_, LinkEntry>) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("link"))?;
        let link = inner.tables()?.link(LinkId(id))?;
        found(out, link.as_ref().map(LinkEntry::from))
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_link_by_name(
    handle: Option<&Handle>,
    name: *const c_char,
    out: Out<'_, LinkEntry>,
) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("link"))?;
        // SAFETY: null or a string, says the header.
        let name = unsafe { text_of(name, "name")? }.ok_or_else(|| Failure::null("name"))?;
        for link in inner.tables()?.links() {
            let link = link?;
            if link.name.as_str() == name {
                return found(out, Some(LinkEntry::from(&link)));
            }
        }
        Ok(NOTHING)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_neighbour(
    handle: Option<&Handle>,
    family: c_int,
    address: *const c_void,
    link: u32,
    out: Out<'_, NeighbourEntry>,
) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("neighbour"))?;
        // SAFETY: an address of that family, says the header.
        let ip = unsafe { address_of(family, address)? };
        let key = NeighbourKey { ip, link: (link != 0).then_some(LinkId(link)) };
        let neighbour = inner.tables()?.neighbour(&key)?;
        found(out, neighbour.as_ref().map(NeighbourEntry::from))
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_neighbours_by_address(
    handle: Option<&Handle>,
    family: c_int,
    address: *const c_void,
    neighbours: *mut MaybeUninit<NeighbourEntry>,
    capacity: usize,
) -> c_int {
    guarded(handle, |inner| {
        // SAFETY: the header asks for so much room, and an address of that family.
        let (out, ip) =
            unsafe { (room(neighbours, capacity, "neighbours")?, address_of(family, address)?) };
        let found = inner.tables()?.neighbours_by_ip(ip)?;
        Ok(several(out, found.iter().map(NeighbourEntry::from)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_neighbours_by_mac(
    handle: Option<&Handle>,
    mac: Option<&[u8; 6]>,
    neighbours: *mut MaybeUninit<NeighbourEntry>,
    capacity: usize,
) -> c_int {
    guarded(handle, |inner| {
        let mac = mac.ok_or_else(|| Failure::null("mac"))?;
        // SAFETY: the header asks for so much room.
        let out = unsafe { room(neighbours, capacity, "neighbours")? };
        let found = inner.tables()?.neighbours_by_mac(Mac(*mac))?;
        Ok(several(out, found.iter().map(NeighbourEntry::from)))
    })
}

// ---- Going through everything ---------------------------------------------

/// A copy of the reader: nothing of the handle is borrowed while callbacks run.
fn reader(handle: Option<&Handle>, image: &mut Option<Reader>) -> c_int {
    guarded(handle, |inner| {
        *image = Some(inner.tables()?.clone());
        Ok(0)
    })
}

fn merge(span: &mut Option<Span>, revisions: Option<(u64, u64)>) {
    if let Some((first, last)) = revisions {
        let first = span.map_or(first, |span| span.first);
        *span = Some(Span { first, last });
    }
}

type RouteFunction = extern "C" fn(*const RouteEntry, *mut c_void) -> c_int;
type NeighbourFunction = extern "C" fn(*const NeighbourEntry, *mut c_void) -> c_int;

/// How an iteration went: what the function returned.
fn each<T, E>(
    entries: &mut rtm_client::Entries<'_, T>,
    entry: impl Fn(&T) -> E,
    function: extern "C" fn(*const E, *mut c_void) -> c_int,
    user: *mut c_void,
) -> Result<c_int, Failure> {
    for item in entries.by_ref() {
        let entry = entry(&item?);
        let stop = function(&raw const entry, user);
        if stop != 0 {
            return Ok(stop);
        }
    }
    Ok(0)
}

#[unsafe(no_mangle)]
extern "C" fn rtm_each_route(
    handle: Option<&Handle>,
    family_number: c_int,
    table: u32,
    function: Option<RouteFunction>,
    user: *mut c_void,
    out: Out<'_, Span>,
) -> c_int {
    let mut image = None;
    let code = reader(handle, &mut image);
    let Some(image) = image else { return code };
    let mut span = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let function = function.ok_or_else(|| Failure::null("function"))?;
        let families = match (family_number, family(family_number)) {
            (0, _) => &[Family::V4, Family::V6][..],
            (_, Some(Family::V4)) => &[Family::V4],
            (_, Some(Family::V6)) => &[Family::V6],
            (number, None) => {
                return Err(Failure::new(ARGUMENT, format!("{number} is no family")));
            }
        };
        let table = (table != 0).then_some(table);
        for family in families {
            let mut routes = match family {
                Family::V4 => image.routes4(table),
                Family::V6 => image.routes6(table),
            };
            let stop = each(&mut routes, |route| RouteEntry::from(route), function, user)?;
            merge(&mut span, routes.revisions());
            if stop != 0 {
                return Ok(stop);
            }
        }
        Ok(0)
    }));
    if let Some(out) = out {
        out.write(span.unwrap_or_default());
    }
    ended(handle, result)
}

#[unsafe(no_mangle)]
extern "C" fn rtm_each_neighbour(
    handle: Option<&Handle>,
    function: Option<NeighbourFunction>,
    user: *mut c_void,
    out: Out<'_, Span>,
) -> c_int {
    let mut image = None;
    let code = reader(handle, &mut image);
    let Some(image) = image else { return code };
    let mut span = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let function = function.ok_or_else(|| Failure::null("function"))?;
        let mut neighbours = image.neighbours();
        let stop = each(&mut neighbours, |entry| NeighbourEntry::from(entry), function, user)?;
        merge(&mut span, neighbours.revisions());
        Ok(stop)
    }));
    if let Some(out) = out {
        out.write(span.unwrap_or_default());
    }
    ended(handle, result)
}

fn ended(handle: Option<&Handle>, result: std::thread::Result<Result<c_int, Failure>>) -> c_int {
    guarded(handle, |_| match result {
        Ok(result) => result,
        Err(panic) => Err(of_panic(&*panic)),
    })
}

// ---- What is there --------------------------------------------------------

#[unsafe(no_mangle)]
extern "C" fn rtm_state(handle: Option<&Handle>, out: Out<'_, State>) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("state"))?;
        let image = inner.tables()?;
        let (state, header) = (image.state()?, image.header());
        let writer = match image.writer() {
            Ok(WriterState::Live) => 1,
            Ok(WriterState::Moved { .. }) => 2,
            Ok(WriterState::Closed) => 3,
            Ok(WriterState::Gone) => 4,
            Err(error) => return Err(Failure::new(SYSTEM, error.to_string())),
        };
        let (repeats, busy) = (image.repeats(), image.busy());
        out.write(State {
            epoch: state.epoch,
            revision: state.revision,
            version: state.version,
            routes4: state.routes[0],
            routes6: state.routes[1],
            neighbours: state.neighbours,
            mac_addresses: state.mac_keys,
            groups: state.groups,
            links: state.links,
            tables: state.tables,
            object_bytes: header.bytes,
            used_bytes: state.used_bytes,
            repeats,
            busy,
            writer,
            connected: inner.mapped.is_connected().into(),
            reserved: 0,
        });
        Ok(0)
    })
}

// ---- Events ---------------------------------------------------------------

#[unsafe(no_mangle)]
extern "C" fn rtm_fd(handle: Option<&Handle>) -> c_int {
    use std::os::fd::{AsFd, AsRawFd};
    guarded(handle, |inner| Ok(inner.mapped.as_fd().as_raw_fd()))
}

#[unsafe(no_mangle)]
extern "C" fn rtm_next_event(handle: Option<&Handle>, out: Out<'_, Event>) -> c_int {
    guarded(handle, |inner| {
        let out = out.ok_or_else(|| Failure::null("event"))?;
        while let Some(notice) = inner.mapped.next_notice()? {
            if let Some(event) = Event::of(notice) {
                out.write(event);
                return Ok(FOUND);
            }
        }
        Ok(NOTHING)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_wait(handle: Option<&Handle>, timeout_ms: c_int) -> c_int {
    let Some(whole) = handle else { return guarded(None, |_| Ok(0)) };
    whole.waiting(|| {
        guarded(handle, |inner| {
            let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
            let interrupted = || Failure::new(INTERRUPTED, "rtm_interrupt or rtm_close was called");
            if whole.is_closing() {
                return Err(interrupted());
            }
            match inner.mapped.wait(timeout, Some(&whole.interrupt))? {
                Waited::Ready => Ok(FOUND),
                Waited::Nothing => Ok(NOTHING),
                Waited::Interrupted => Err(interrupted()),
            }
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rtm_interrupt(handle: Option<&Handle>) -> c_int {
    let Some(handle) = handle else { return ARGUMENT };
    let interrupted = catch_unwind(AssertUnwindSafe(|| handle.interrupt.interrupt()));
    if interrupted.is_ok() { 0 } else { INTERNAL }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HEADER: &str = include_str!("../include/rtm.h");

    /// `#define NAME (VALUE)`s of the header with this beginning.
    fn defines(prefix: &str) -> Vec<(String, i64)> {
        HEADER
            .lines()
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
                let value = value.split_whitespace().next()?;
                let value = value.trim_matches(['(', ')']).trim_end_matches('u');
                name.starts_with(prefix).then(|| Some((name.to_owned(), value.parse().ok()?)))?
            })
            .collect()
    }

    #[test]
    fn codes_are_those_of_the_header() {
        let ours: Vec<(String, i64)> = CODES
            .iter()
            .map(|(code, name)| (name.to_str().unwrap().to_owned(), i64::from(*code)))
            .collect();
        assert_eq!(defines("RTM_E_"), ours);
        let flags = [
            ("RTM_OPEN_EVENTS", OPEN_EVENTS),
            ("RTM_OPEN_FUTEX", OPEN_FUTEX),
            ("RTM_OPEN_LATER", OPEN_LATER),
        ];
        let flags: Vec<_> = flags.map(|(name, bit)| (name.to_owned(), i64::from(bit))).into();
        assert_eq!(defines("RTM_OPEN_"), flags);
        let types = rtm_client::model::RouteType::NAMES;
        for (kind, name) in types.iter().take(9) {
            let name = format!("RTM_{}", name.to_uppercase());
            assert!(defines(&name).contains(&(name.clone(), *kind as i64)), "{name}");
        }
        assert!(HEADER.contains(&format!("#define RTM_VERSION \"{}\"", env!("CARGO_PKG_VERSION"))));
    }

    /// A panic in a body is a code and a line, not the end of the process.
    #[test]
    fn a_panic_ends_at_the_abi() {
        let options = MappedConfig { later: true, ..MappedConfig::default() };
        let nowhere = Place::Unix("/nonexistent/rtm.sock".into());
        let handle = Handle::new(Mapped::open(&nowhere, options).unwrap()).unwrap();
        assert_eq!(guarded(Some(&handle), |_| panic!("on purpose")), INTERNAL);
        // SAFETY: a string of the handle's, which lives.
        let text = unsafe { CStr::from_ptr(rtm_error(Some(&handle))) };
        assert_eq!(text, c"a bug in librtm: on purpose");
        let mut answer = MaybeUninit::uninit();
        let code = rtm_lookup4(Some(&handle), 0, Some(&mut answer));
        assert_eq!(code, crate::failure::NOT_READY);
    }

    /// Each declaration is exported by this file, and nothing else is.
    #[test]
    fn declarations_and_exports_are_the_same() {
        let name = |line: &str, before: &str| -> Option<String> {
            let rest = line.split_once(before)?.1;
            Some(rest.split('(').next()?.to_owned())
        };
        let exported: BTreeSet<String> = include_str!("exports.rs")
            .lines()
            .filter_map(|line| name(line, "extern \"C\" fn rtm_"))
            .collect();
        let declared: BTreeSet<String> = HEADER
            .lines()
            .filter(|line| !line.starts_with([' ', '#', '/']) && !line.starts_with("typedef"))
            .filter(|line| line.contains('('))
            .filter_map(|line| name(line, "rtm_"))
            .collect();
        assert_eq!(declared, exported);
        assert!(declared.len() > 20, "{declared:?}");
    }
}
