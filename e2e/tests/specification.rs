//! The specification's own demonstration, with real processes: its sample
//! table put in by the daemon's menu, shown by three clients' menus, changed
//! and deleted, and a client that joins late.

use rtm_e2e::{Daemon, Process};

const SAMPLE: [(&str, &str, &str); 4] = [
    ("122.1.1.1/32", "10.1.1.1", "Ethernet1"),
    ("130.1.1.0/24", "10.1.1.1", "Ethernet1"),
    ("126.30.34.0/24", "20.1.1.1", "Ethernet2"),
    ("220.1.0.0/16", "30.1.2.3", "Ethernet3"),
];

/// A menu's table as rows of cells, header left out.
fn rows(output: &str, heading: &str) -> Vec<Vec<String>> {
    let start = output.rfind(heading).unwrap_or_else(|| panic!("no {heading:?} in: {output}"));
    output[start..]
        .lines()
        .skip(1)
        .map(|line| line.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>())
        .skip_while(|cells| cells.iter().all(|cell| cell.chars().all(|c| "-+ ".contains(c))))
        .take_while(|cells| cells.len() == 3)
        .collect()
}

/// Asks a client's menu for its routing table until it holds `count` rows.
fn routes(client: &mut Process, count: usize) -> Vec<Vec<String>> {
    let start = std::time::Instant::now();
    loop {
        let asked = client.stdout().matches("Destination Subnet (Key)").count();
        client.write("1\n");
        while client.stdout().matches("Destination Subnet (Key)").count() == asked {
            assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "no table: {}", client.stdout());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // The table's end: the menu comes again behind it.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let rows = rows(&client.stdout(), "Destination Subnet (Key)");
        if rows.len() == count {
            return rows;
        }
        assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "not {count} rows: {rows:?}");
    }
}

fn sorted(rows: &[(&str, &str, &str)]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| vec![row.0.to_string(), row.1.to_string(), row.2.to_string()])
        .collect();
    rows.sort_by_key(|row| {
        row[0].split('/').next().unwrap().parse::<std::net::Ipv4Addr>().unwrap()
    });
    rows
}

#[test]
fn the_sample_table_reaches_every_client() {
    let mut daemon = Daemon::start(&["--console"]);
    let mut clients: Vec<Process> = (1..=3)
        .map(|n| daemon.spawn(&["client", "--menu", "--name", &format!("client{n}")]))
        .collect();
    for client in &clients {
        client.wait_stderr("live");
    }

    // Insert by the daemon's menu, one line each.
    for (prefix, gateway, oif) in SAMPLE {
        daemon.process.write(&format!("1\n{prefix} {gateway} {oif}\n"));
    }
    for client in &mut clients {
        assert_eq!(routes(client, 4), sorted(&SAMPLE));
    }

    // A fifth row, changed, then deleted.
    let mut five = SAMPLE.to_vec();
    five.push(("100.100.100.0/24", "50.1.1.1", "Ethernet4"));
    daemon.process.write("1\n100.100.100.0/24 50.1.1.1 Ethernet4\n");
    for client in &mut clients {
        assert_eq!(routes(client, 5), sorted(&five));
    }
    daemon.process.write("2\n100.100.100.0/24 50.1.1.2 Ethernet5\n");
    daemon.rtm(&["sync", "--timeout", "60"]);
    five[4] = ("100.100.100.0/24", "50.1.1.2", "Ethernet5");
    for client in &mut clients {
        assert_eq!(routes(client, 5), sorted(&five));
    }

    // A client that joins late gets the whole table first.
    let late = daemon.rtm(&["client", "--once", "--verify"]);
    assert_eq!(late.lines().last(), Some(daemon.rtm(&["digest"]).trim()));

    daemon.process.write("3\n100.100.100.0/24\n");
    for client in &mut clients {
        assert_eq!(routes(client, 4), sorted(&SAMPLE));
    }

    // Neighbours, by the menu: 5 inserts, 7 shows.
    daemon
        .process
        .write("5\n02:00:00:00:00:01 10.1.1.1\n5\n02:00:00:00:00:02 20.1.1.1 Ethernet2\n7\n");
    daemon.process.wait_stdout("MAC address (Key)");
    daemon.rtm(&["sync", "--timeout", "60"]);
    clients[0].write("2\n");
    clients[0].wait_stdout("MAC address (Key)");
    clients[0].wait_stdout("02:00:00:00:00:02");
    let shown = rows(&clients[0].stdout(), "MAC address (Key)");
    assert_eq!(shown[0], ["02:00:00:00:00:01", "10.1.1.1", "-"]);
    assert_eq!(shown[1], ["02:00:00:00:00:02", "20.1.1.1", "Ethernet2"]);

    // 8 flushes both tables; every copy is empty.
    daemon.process.write("8\n");
    for client in &mut clients {
        assert_eq!(routes(client, 0), Vec::<Vec<String>>::new());
    }

    // 0 quits, asked once; clients see the goodbye and the daemon exits 0.
    daemon.process.write("0\ny\n");
    let directory = daemon.directory().to_path_buf();
    let start = std::time::Instant::now();
    while !daemon.process.ended() {
        assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "the daemon doesn't stop");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!directory.join("rtm.sock").exists(), "the socket's name is removed");
    for client in clients {
        client.wait_stderr("the daemon stops");
        client.signal(15);
        assert_eq!(client.finish().code, Some(0));
    }
}

#[test]
fn a_wrong_menu_entry_gets_one_line_and_the_menu_again() {
    let mut daemon = Daemon::start(&["--console"]);
    daemon.process.write("11\n");
    daemon.process.wait_stdout("11");
    daemon.process.write("1\n10.0.0.1/8 10.1.1.1 eth0\n");
    daemon.process.wait_stdout("10.0.0.0/8 would be right");
    daemon.process.write("1\n10.0.0.0/8\n10.1.1.1\neth/0\n");
    daemon.process.wait_stdout("can't stand in an interface name");
    // Field by field, then a line of the grammar at the prompt.
    daemon.process.write("1\n10.0.0.0/8\n10.1.1.1\neth0\nroute add 11.0.0.0/8 via 10.1.1.1\n");
    let start = std::time::Instant::now();
    while daemon.json(&["route", "show"]).as_array().unwrap().len() < 2 {
        assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "{}", daemon.process.stdout());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // End of input closes the menu, not the daemon.
    daemon.process.close_stdin();
    assert_eq!(
        daemon.rtm(&["route", "show"]),
        "10.0.0.0/8 via 10.1.1.1 dev eth0 proto static \n11.0.0.0/8 via 10.1.1.1 proto static \n"
    );
    daemon.process.signal(15);
}
