// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// environment holds the variables of a sandbox in the layers that Lambda has.
// Nothing of the host's environment is passed on.
type environment struct {
	defaults map[string]string // may be overridden by the function's own
	function map[string]string
	platform map[string]string // reserved: override the function's own
	runtime  map[string]string // reserved, and not shown to extensions
}

// hiddenFromExtensions are never in an extension's environment, not even when
// the function sets them (Extensions API, "Environment variables"). AWS_XRAY_*
// and names that begin with an underscore are left out too.
var hiddenFromExtensions = []string{
	"AWS_EXECUTION_ENV",
	"AWS_LAMBDA_LOG_GROUP_NAME",
	"AWS_LAMBDA_LOG_STREAM_NAME",
	"LAMBDA_RUNTIME_DIR",
	"LAMBDA_TASK_ROOT",
}

func newEnvironment(f Function, o Options, apiAddress string) environment {
	return environment{
		defaults: map[string]string{
			"LANG": "en_US.UTF-8",
			"PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
			"TZ":   ":UTC",
		},
		function: f.Env,
		platform: map[string]string{
			"AWS_ACCESS_KEY_ID":               o.AccessKeyID,
			"AWS_SECRET_ACCESS_KEY":           o.SecretAccessKey,
			"AWS_SESSION_TOKEN":               o.SessionToken,
			"AWS_REGION":                      o.Region,
			"AWS_DEFAULT_REGION":              o.Region,
			"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
			"AWS_LAMBDA_FUNCTION_VERSION":     f.Version,
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB),
			"AWS_LAMBDA_INITIALIZATION_TYPE":  o.InitializationType,
			"AWS_LAMBDA_RUNTIME_API":          apiAddress,
		},
		runtime: map[string]string{
			"_HANDLER":                   f.Handler,
			"AWS_EXECUTION_ENV":          "AWS_Lambda_provided.al2023",
			"AWS_LAMBDA_LOG_GROUP_NAME":  "/aws/lambda/" + f.Name,
			"AWS_LAMBDA_LOG_STREAM_NAME": "lambdasim/[" + f.Version + "]",
			"LAMBDA_RUNTIME_DIR":         "/var/runtime",
			"LAMBDA_TASK_ROOT":           filepath.Dir(f.Bootstrap),
		},
	}
}

// forExtension returns the environment of an external extension, sorted.
func (e environment) forExtension() []string {
	vars := merge(e.defaults, e.function, e.platform)
	maps.DeleteFunc(vars, func(name, _ string) bool {
		return strings.HasPrefix(name, "_") ||
			strings.HasPrefix(name, "AWS_XRAY_") ||
			slices.Contains(hiddenFromExtensions, name)
	})
	return list(vars)
}

// forRuntime returns the environment of the runtime, sorted.
func (e environment) forRuntime() []string {
	return list(merge(e.defaults, e.function, e.platform, e.runtime))
}

// merge returns the union of the layers; later ones win.
func merge(layers ...map[string]string) map[string]string {
	union := make(map[string]string)
	for _, layer := range layers {
		maps.Copy(union, layer)
	}
	return union
}

func list(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, name+"="+vars[name])
	}
	return out
}
