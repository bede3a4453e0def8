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
// # A run
//
// A run observes, plans and applies. An event only narrows what is looked at: state is always read anew (G1). What cannot be read in
// whole is not used (G2). The plan is a pure function of what was read, with a reason and a difference for each change (G3); it is in
// the order of urgency, and carrying it out leaves nothing to plan. Applying it is thin: a few calls for each change, some changes at
// a time, deletes after all else, nothing begun shortly before the deadline (G9).
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
// # What it is not
//
// It speaks to no API: [Functions], [Consul] and [Documents] are ports, whose adapters keep to rates, retry, and know the SDKs. It
// does not own them and closes nothing. It runs when it is called; it has no loop, and no goroutine outlives a call. It decides
// nothing by what a process remembers: memory only saves calls.
package registrator
