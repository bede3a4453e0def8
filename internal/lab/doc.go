// SPDX-License-Identifier: MPL-2.0

// Package lab is a miniature world on loopback in which the real extension runs: a mesh with a certificate authority, a
// gateway and services (package meshsim), a Parameter Store with the function's credential document (package ssmsim),
// and functions in execution environments of their own (package lambdasim).
//
//	programs, err := lab.FindPrograms("bin")
//	world, err := lab.New(ctx, lab.Config{Programs: programs})
//	defer world.Close()
//	sandbox, err := world.ColdStart(ctx, world.Function())
//	defer sandbox.Kill()
//	result, err := sandbox.Invoke(ctx, []byte(`{"calls":[{"tcp":"`+world.Addr(lab.Echo)+`","send":"hi"}]}`))
//
// The function is examples/mesh-function, which calls what its event says. A world has an address of its own on loopback
// ([World.Host]), on which its extension listens: ports are those that a user would configure, and worlds do not get in
// each other's way. Two sandboxes of one world do, as two on one host would.
//
// A world may have a control plane: a Consul with the mesh's certificate authority (package consulsim), and the account's
// functions, their tags and the events about them (package controlsim), which invoke the real registrator in a sandbox of its
// own. What it registers is what the extension then reads:
//
//	world, err := lab.New(ctx, lab.Config{Programs: programs, Unregistered: true})
//	control, err := world.StartControl(lab.ControlConfig{})
//	defer control.Close()
//	control.AWS.AddFunction("checkout", map[string]string{lab.EnabledTag: "true"})
//	err = control.AWS.WaitEvents(ctx) // Consul and the store have it
//
// Whatever can go wrong is done to the parts themselves: World.Mesh, World.Store, Control.AWS and Control.Consul have the
// fault knobs.
//
// Ownership: [World.Close] ends the mesh and the store, [Control.Close] its parts and the registrator, before that. A sandbox
// is ended by whoever started it, first of all. Nothing is written to disk, but for what [Build] is told to.
//
// The mesh gateway is not Envoy, and EventBridge is one queue; the packages say what stands in for what. Functions run on
// Linux only, the rest anywhere that has all of 127.0.0.0/8 on loopback.
package lab
