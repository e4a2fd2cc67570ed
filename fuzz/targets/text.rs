//! The grammar: no line does harm, and what is printed of a change is the same
//! change again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtm_model::text::{
    Command, Context, Filter, NeighbourSelector, RouteSelector, parse_line,
    parse_printed_neighbour, parse_printed_route, write_change,
};

fuzz_target!(|text: &str| {
    let cx = Context::default();
    for line in text.lines().chain([text]) {
        if let Ok(Some((_, Command::Change(change)))) = parse_line(line, &cx) {
            let mut printed = String::new();
            write_change(&mut printed, &change).expect("a string takes all");
            match parse_line(&printed, &cx) {
                Ok(Some((_, Command::Change(again)))) => assert_eq!(again, change, "{printed}"),
                other => panic!("{line:?} is printed as {printed:?}: {other:?}"),
            }
        }
        let _ = parse_printed_route(line, &cx);
        let _ = parse_printed_neighbour(line, &cx);
        let _ = RouteSelector::parse(line, &cx);
        let _ = NeighbourSelector::parse(line, &cx);
        if let Ok(filter) = Filter::parse(line, &cx) {
            let printed = filter.to_string();
            let again = Filter::parse(&printed, &cx);
            assert_eq!(again.as_ref(), Ok(&filter), "{line:?}, {printed:?}");
        }
        if let Err(error) = parse_line(line, &cx) {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
});
