//! The commands that ask all members through one node: explain and agreement.

use std::process::ExitCode;
use std::time::Duration;

use super::api::{Api, parameter, path};
use super::arguments::{AgreementCommand, ExplainCommand};
use super::escaping::harmless;
use super::failure::Failure;
use super::output::{age, print, print_json, table};
use networkdb_http::v1::inquiry_model::{
    Agreement, AnswerView, EntryAtMember, EntryExplained, EntryKnown, MemberAtMember, MemberExplained,
    WriteKnown,
};
use networkdb_http::v1::model::Networks;

/// The query of a call with this time for answers.
fn within(time: Option<Duration>) -> String {
    time.map_or(String::new(), |time| format!("?{}", parameter("within", &format!("{}ms", time.as_millis()))))
}

pub(super) async fn explain(command: ExplainCommand) -> Result<ExitCode, Failure> {
    let ExplainCommand { client, network, table, key, member, within: time } = command;
    if let Some(member) = member {
        let path = path(&["members", &member, "explain"]) + &within(time);
        let explained: MemberExplained = client.api().get(&path).await?;
        let text = member_table(&explained.members);
        if client.json {
            print_json(&explained)?
        } else {
            print(&text)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (Some(network), Some(table), Some(key)) = (network, table, key) else {
        unreachable!("without --member, all three are required")
    };
    let path = path(&["networks", &network, "tables", &table, "entries", &key, "explain"]) + &within(time);
    let explained: EntryExplained = client.api().get(&path).await?;
    let text = entry_table(&explained.members);
    if client.json {
        print_json(&explained)?
    } else {
        print(&text)?
    }
    Ok(ExitCode::SUCCESS)
}

/// A name, or several, from another node.
fn name(name: &str) -> String {
    harmless(name).into_owned()
}

fn without_answer(answer: &AnswerView) -> String {
    format!("no answer: {}", answer.explanation.as_deref().unwrap_or_default())
}

fn entry_table(members: &[EntryAtMember]) -> String {
    let rows = members.iter().map(|row| {
        let member = name(&row.answer.member);
        let Some(known) = &row.entry else { return vec![member, without_answer(&row.answer)] };
        let write = known.write.as_ref();
        vec![
            member,
            known.hidden.as_ref().map_or(known.state.clone(), |why| format!("hidden: {why}")),
            write.map(|write| write.version.clone()).unwrap_or_default(),
            write.map(|write| name(&write.owner)).unwrap_or_default(),
            write.map(arrived).unwrap_or_default(),
            remarks(known),
        ]
    });
    table(&["MEMBER", "STATE", "VERSION", "OWNER", "ARRIVED", "REMARKS"], rows)
}

fn arrived(write: &WriteKnown) -> String {
    let Some(arrival) = &write.arrival else { return "not kept any more".to_owned() };
    let from = arrival.from.as_ref().map(|from| format!(" from {}", harmless(from))).unwrap_or_default();
    let when = arrival.seconds_ago.map(|seconds| format!(", {}", age(seconds))).unwrap_or_default();
    format!("{}{from}{when}", arrival.path)
}

fn remarks(known: &EntryKnown) -> String {
    let mut remarks = Vec::new();
    let write = known.write.as_ref();
    let arrival = write.and_then(|write| write.arrival.as_ref());
    if let Some(arrival) = arrival
        && let (Some(version), Some(owner)) = (&arrival.replaced_version, &arrival.replaced_owner)
    {
        remarks.push(format!("replaced {version} of {}", harmless(owner)));
    }
    if let Some(seconds) = write.and_then(|write| write.tombstone_seconds) {
        remarks.push(format!("forgotten in {seconds:.0} s"));
    }
    if let Some(refused) = &known.refused {
        remarks.push(format!("refuses a write of {}: {}", harmless(&refused.owner), refused.reason));
    }
    if !known.synchronised {
        remarks.push("not synchronised".to_owned());
    }
    remarks.join("; ")
}

fn member_table(members: &[MemberAtMember]) -> String {
    let rows = members.iter().map(|row| {
        let member = name(&row.answer.member);
        if !row.answer.is_answer() {
            return vec![member, without_answer(&row.answer)];
        }
        let Some(known) = &row.known else { return vec![member, "unknown".to_owned()] };
        let accusation = known.accusation.as_ref();
        let confirmed = accusation.map(|accusation| name(&accusation.confirmed_by.join(", ")));
        vec![
            member,
            format!("{}, {}", known.state, age(known.state_seconds)),
            known.acknowledged_seconds.map(age).unwrap_or_default(),
            known.round_trip_seconds.map(|seconds| format!("{:.2} ms", seconds * 1e3)).unwrap_or_default(),
            accusation
                .map(|accusation| {
                    format!("{}, {}", harmless(&accusation.accused_by), age(accusation.seconds_ago))
                })
                .unwrap_or_default(),
            confirmed.unwrap_or_default(),
        ]
    });
    table(&["MEMBER", "STATE", "LAST ANSWER", "ROUND TRIP", "ACCUSED BY", "CONFIRMED BY"], rows)
}

pub(super) async fn agreement(command: AgreementCommand) -> Result<ExitCode, Failure> {
    let AgreementCommand { client, network, within: time } = command;
    let networks = match network {
        Some(network) => vec![network],
        None => {
            let networks: Networks = client.api().get("/v1/networks").await?;
            networks.networks.into_iter().map(|network| network.network).collect()
        }
    };
    let mut agreements: Vec<Agreement> = Vec::new();
    for network in &networks {
        agreements.push(ask(client.api(), network, time).await?);
    }
    if client.json {
        print_json(&agreements)?;
    } else {
        print(&agreement_table(&agreements))?;
        print(&difference_table(&agreements))?;
    }
    let differ = agreements.iter().filter(|agreement| !agreement.agree);
    match differ.map(|agreement| agreement.network.as_str()).collect::<Vec<_>>() {
        none if none.is_empty() => Ok(ExitCode::SUCCESS),
        networks => Err(Failure::Refused(format!(
            "the members do not agree on {}; if there are no writes in progress, repeat this in a second",
            harmless(&networks.join(", "))
        ))),
    }
}

async fn ask(api: &Api, network: &str, time: Option<Duration>) -> Result<Agreement, Failure> {
    api.get(&(path(&["networks", network, "agreement"]) + &within(time))).await
}

fn agreement_table(agreements: &[Agreement]) -> String {
    let rows =
        agreements.iter().flat_map(|agreement| agreement.members.iter().map(move |row| (agreement, row)));
    let rows = rows.map(|(agreement, row)| {
        let (network, member) = (name(&agreement.network), name(&row.answer.member));
        let Some(holds) = &row.holds else {
            return vec![network, member, String::new(), without_answer(&row.answer)];
        };
        let refused =
            if holds.refused > 0 { format!("refuses {} writes", holds.refused) } else { String::new() };
        vec![network, member, holds.entries.to_string(), holds.digest.clone(), refused]
    });
    table(&["NETWORK", "MEMBER", "#ENTRIES", "DIGEST", "REMARKS"], rows)
}

/// The keys that differ; empty if there are none.
fn difference_table(agreements: &[Agreement]) -> String {
    let mut rows = Vec::new();
    for agreement in agreements {
        for found in &agreement.differences {
            for row in &found.members {
                let Some(known) = &row.entry else { continue };
                rows.push(vec![
                    format!(
                        "{}/{}/{}",
                        harmless(&agreement.network),
                        harmless(&found.table),
                        harmless(&found.key)
                    ),
                    found.reason.clone(),
                    name(&row.answer.member),
                    known.state.clone(),
                    known.write.as_ref().map(|write| write.version.clone()).unwrap_or_default(),
                ]);
            }
        }
    }
    let more = agreements.iter().any(|agreement| agreement.more_differences);
    let more = if more { "There are more differences.\n" } else { "" };
    match rows.is_empty() {
        true => more.to_owned(),
        false => format!("\n{}{more}", table(&["KEY", "REASON", "MEMBER", "STATE", "VERSION"], rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_differences_are_shown_in_columns() {
        let agreement: Agreement = serde_json::from_str(
            r#"{"node":"a","network":"n","agree":false,"members":[
                {"member":"a","this_node":true,"answer":"answered","holds":{"digest":"11","entries":2,"hidden":0,
                 "tombstones":0,"refused":0,"synchronised":true}},
                {"member":"b","this_node":false,"answer":"late","explanation":"it did not answer in time"}],
                "differences":[{"table":"t","key":"k","reason":"refused","explanation":"x","members":[
                 {"member":"a","this_node":true,"answer":"answered","entry":{"state":"absent","synchronised":true}}]}],
                "more_differences":true,"disagreement_seconds":3.0}"#,
        )
        .unwrap();
        let agreements = [agreement];
        assert_eq!(
            agreement_table(&agreements),
            concat!(
                "NETWORK  MEMBER  ENTRIES  DIGEST                                REMARKS\n",
                "n        a             2  11\n",
                "n        b                no answer: it did not answer in time\n"
            )
        );
        assert_eq!(
            difference_table(&agreements),
            "\nKEY    REASON   MEMBER  STATE   VERSION\nn/t/k  refused  a       absent\nThere are more differences.\n"
        );
    }

    #[test]
    fn an_explanation_is_shown_in_columns() {
        let explained: EntryExplained = serde_json::from_str(
            r#"{"node":"a","network":"n","table":"t","key":"k","members":[
                {"member":"a","this_node":true,"answer":"answered","entry":{"state":"visible","synchronised":true,
                 "write":{"version":"1-2-3","owner":"b","generation":1,"epoch":1,"written":1.0,"bytes":3,
                  "arrival":{"path":"gossip","from":"b","seconds_ago":2.5,"replaced_version":"1-1-1",
                   "replaced_owner":"c"}}}},
                {"member":"b","this_node":false,"answer":"failed","explanation":"it has failed or left"}]}"#,
        )
        .unwrap();
        assert_eq!(
            entry_table(&explained.members),
            concat!(
                "MEMBER  STATE                             VERSION  OWNER  ARRIVED                 REMARKS\n",
                "a       visible                           1-2-3    b      gossip from b, 2 s ago  replaced 1-1-1 of c\n",
                "b       no answer: it has failed or left\n"
            )
        );
    }
}
