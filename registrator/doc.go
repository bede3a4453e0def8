// SPDX-License-Identifier: MPL-2.0

// Package registrator keeps Consul's catalog and the store of credential documents equal to the tagged Lambda functions of one AWS
// account and region, and cannot break what works by mistake.
//
//	r, err := registrator.New(registrator.Config{
//		Owner: owner, Node: "lambdas", DataPrefix: "/consul/lambda",
//		Functions: lambdaAPI, Consul: consulAPI, Documents: parameterStore,
//	})
//	scope, err := registrator.ParseEvent(payload, owner) // which functions to look at
//	result, err := r.Run(ctx, scope)                     // observe, plan, apply
//	plan, err := r.Plan(ctx, scope)                      // observe and plan only; print it with String
//
// The numbers G1 to G12 are the registrator's rules in docs/rules.md.
//
// # A run
//
// A run observes, plans and applies. A full run looks at all functions, and is what a schedule starts. An event's run looks at the
// functions that the event names: an event only narrows what is looked at, state is always read anew (G1). What cannot be read in
// whole is left out, nothing is deleted for its absence, and the run fails at its end (G2). The plan is a pure function of what was
// read, with a reason and a difference for each change (G3); it is in the order of urgency, and carrying it out leaves nothing to plan.
// Applying it is thin: a few calls for each change, some changes at a time, deletes after all else, nothing begun shortly before the
// deadline (G9). The files run.go, observe.go, calculate.go and apply.go tell it in this order.
//
// A function that is tagged as enabled becomes a service of its name, and one for each alias that it names. A service is an instance
// on a node that stands for no machine, with a tag that says that a registrator made it, and with meta that say whose it is and
// what its credential document was made of; a service-defaults entry with Consul's Lambda extension, merged into what others have
// written there; and, for the plain function, a credential document: leaf, key, roots and peers. As what is needed to decide is in
// the meta, a quiet run makes five calls of Consul (services, service-defaults, roots, peerings, heartbeat), lists the functions, and
// looks at one page of the store's names and versions; once in six hours at all of them.
//
// # What keeps it safe
//
// Only what is owned is touched (G5): another account's registrator may share the node and the names. A delete needs a reason that
// was read of that very function (the tag is off, AWS has no such function, the alias is not named any more, it moved), comes last,
// and is bounded in number; above the bound none is made and the run fails (G7). Writes to Consul are compare-and-set. A run may stop
// after any call: apply.go says why the next one heals it. A leaf is checked before it is stored, and one that nears its end comes
// before all else (G8). One bad function does not stop the others (G10): a user's mistake is a warning, and leaves what the function
// has as it is, its leaf kept alive; what fails on our side makes the run fail after all else is done.
//
// # Words
//
//   - owner: the account and region whose functions are kept; ours is what is marked with it
//   - realm: a partition in a datacenter, the part of Consul that is listed at once
//   - sight: what is known of one function, and whether from a listing or from a call of its own (then it is confirmed)
//   - look: what was seen of the store's names and versions; a whole one has all of them
//   - wish: what a function's tags ask for: records, or why there are none, or what is wrong with the tags
//   - record: the desired state of one service, for a function or one of its aliases
//   - claim: a record that no other one has a better right to
//   - holding: a service of ours as it is registered. A planner has them as held, by key
//   - hold: whose a service-defaults entry is
//   - standing: what there is of one service: its holding, its service-defaults and whose they are
//   - namesake: an instance of the same name on a node that is not ours
//   - remnant: service-defaults that are marked as ours, of a service that is not registered: a run did not get to its end
//   - stray: a document of no service
//   - Held, of a plan: changes that are not made, by the policy, the cap, or because not all of Consul could be read
//
// In a comment "held" without more is "ours and registered", and what is "held back" is in Held. "Kept" is what a user has set up the
// registrator for (a kept datacenter), "kept alive" what has its leaf renewed.
//
// # What it is not
//
// It speaks to no API: [Functions], [Consul] and [Documents] are ports, whose adapters keep to rates, retry, and know the SDKs. It
// does not own them and closes nothing. It runs when it is called; it has no loop, and no goroutine outlives a call. What a process
// remembers saves calls and makes it more careful: it doubts a listing about a function that it has read by itself, counts what was
// deleted a moment ago, looks again at what it left unfinished. A process that remembers nothing comes to the same end.
package registrator
