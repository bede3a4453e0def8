// SPDX-License-Identifier: MPL-2.0

// Package lambdasim is AWS Lambda in small: one execution environment (a
// [Sandbox]) on loopback, with the Extensions API and the Runtime API, running
// real, unmodified programs: extensions as Lambda finds them in a layer and a
// runtime such as a function built with aws-lambda-go.
//
//	sandbox, err := lambdasim.Start(ctx, lambdasim.Function{
//		Name:       "orders",
//		Bootstrap:  "/path/to/bootstrap",
//		Extensions: []string{"/path/to/consul-lambda-extension"},
//		Env:        map[string]string{"CONSUL_SERVICE_UPSTREAMS": "db:1234"},
//	}, lambdasim.Options{})
//	if err != nil { … } // *InitError: Init failed, everything has been ended
//	defer sandbox.Kill()
//	result, err := sandbox.Invoke(ctx, []byte(`{}`))
//	err = sandbox.Freeze(ctx)
//	report, err := sandbox.Shutdown(ctx, lambdasim.ReasonSpindown)
//
// # What is as on Lambda
//
// The order of a cold start (extensions, then the runtime once all of them have
// registered, then Ready when all have asked for their first event) and its
// limit; registration states and the types of the 403 answers; who receives
// INVOKE and who is waited for; the response that reaches the invoker before
// extensions are done; the function timeout and the reset that follows it or a
// crash; Init run again by the next invocation; SIGTERM to the runtime before
// SHUTDOWN to the extensions; the deadlines; the environments; a freeze that
// stops every thread. The behaviour follows the Extensions API documentation
// (docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html) and, where
// that is silent, the published core of the emulator
// (github.com/aws/aws-lambda-runtime-interface-emulator, internal/lambda).
//
// # What it is not
//
// There is no isolation: programs see the host's files and network, and run at
// the host's speed (Options.Prepare can place them in a cgroup). There is no
// Telemetry API, SnapStart, response streaming, provisioned concurrency or
// Managed Instances, and one sandbox serves one invocation at a time. A freeze
// stops processes, not the machine: clocks and the peers' timers go on, as they
// do around a frozen microVM.
//
// # Ownership
//
// [Start] owns all that it starts. [Sandbox.Shutdown] or [Sandbox.Kill] ends and
// reaps every process, closes the API server and returns when no goroutine is
// left; one of them must be called for each sandbox that Start returned. Every
// process leads its own process group, which is killed when its leader has
// ended. If the program that runs the sandbox dies, the kernel kills the group
// leaders with it (see process_linux.go).
//
// Processes are run on Linux only; elsewhere Start returns errors.ErrUnsupported.
package lambdasim
