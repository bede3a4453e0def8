// SPDX-License-Identifier: MPL-2.0

// Package doctor finds out why a function does not reach the mesh. It makes the extension's way step by step, with the extension's
// own code, and says at each step what it found and what to do about it:
//
//	report := doctor.Run(ctx, doctor.Config{Environ: os.Environ()})
//	for _, r := range report.Results { … }
//
// The steps, in this order; the names are those of [Result.Name], and machines may rely on them:
//
//	configuration  the extension's environment variables, and names that a gateway might not find
//	store          Parameter Store answers, and the document can be decrypted
//	clock          this machine's clock, compared with the store's
//	document       it has the shape of one
//	key            it belongs to the leaf
//	leaf           it is valid now, and for a while
//	chain          it leads to one of the roots
//	identity       it names this function
//	gateway        each mesh gateway: its name and a TCP connection
//	route          each upstream through each gateway: a handshake, and who answered it
//	intention      each upstream: what becomes of a connection that is open
//	port           each upstream's port in this sandbox
//	trail          advice: what cannot be asked from here
//
// What a step needs and did not get makes it [Skip], so that the first failure is the one to look at.
//
// The identity of who answers is checked by package tlsstate, as in the extension (R1): nothing here is a second opinion. No byte is
// sent to a service unless it is asked for. No result holds a key, a certificate or a credential.
//
// Ownership: Run closes what it opened and leaves no goroutine behind.
//
// Not here: Consul's side (is the service healthy, which intention denies), the registrator's (see its plan), and repairs.
package doctor
