// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Function is what the server knows of a function.
type Function struct {
	// Name is its plain name.
	Name string
	// Tags may be nil.
	Tags map[string]string
	// Role is the ARN of its execution role. Empty: a role of the account, named for the function.
	Role string
	// Versions is how many are published: 1 to Versions, but for those that were deleted.
	Versions int
	// Aliases are the versions that aliases point to ("$LATEST" or a number). May be nil.
	Aliases map[string]string
	// Environment are its variables, which every version has. May be nil.
	Environment map[string]string
}

const latest = "$LATEST"

type function struct {
	Function                 // its maps are replaced, never changed: snapshots share them
	tagged   bool            // it has or once had tags
	gone     map[int]bool    // deleted versions
	modified time.Time       // of the configuration
	notes    map[string]note // by alias
}

// note is what an alias has besides its version.
type note struct{ description, revision string }

// AddFunction puts a function with these tags into the account, without versions or aliases, in place of one of that
// name. Neither names nor tags are checked.
func (s *Server) AddFunction(name string, tags map[string]string) {
	s.AddFunctions(Function{Name: name, Tags: tags})
}

// AddFunctions is AddFunction for many, and with all that a Function has.
func (s *Server) AddFunctions(functions ...Function) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range functions {
		stored := s.add(f)
		s.announce(apiCall(createFunction, createParameters(stored.Function), s.configuration(stored, latest)))
		for _, alias := range slices.Sorted(maps.Keys(stored.Aliases)) {
			s.announce(apiCall(createAlias, aliasParameters(f.Name, alias, f.Aliases[alias]), s.alias(stored, alias)))
		}
	}
}

// SetTags makes these the only tags of a function. It says whether there is one of that name.
func (s *Server) SetTags(name string, tags map[string]string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.functions[name]
	if !ok {
		return false
	}
	var removed []string
	for _, key := range slices.Sorted(maps.Keys(f.Tags)) {
		if _, kept := tags[key]; !kept {
			removed = append(removed, key)
		}
	}
	changed := make(map[string]string)
	for key, value := range tags {
		if old, had := f.Tags[key]; !had || old != value {
			changed[key] = value
		}
	}
	f.setTags(maps.Clone(tags))
	if len(removed) > 0 {
		s.announce(apiCall(untagResource, untagParameters(s.ARN(name), removed), nil))
	}
	if len(changed) > 0 {
		s.announce(apiCall(tagResource, tagParameters(s.ARN(name), changed), nil))
	}
	return true
}

// SetAliases makes these the only aliases of a function, each with its version ("$LATEST" or a number). It says whether
// there is a function of that name.
func (s *Server) SetAliases(name string, aliases map[string]string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.functions[name]
	if !ok {
		return false
	}
	old := f.Aliases
	f.Aliases = maps.Clone(aliases)
	for _, alias := range slices.Sorted(maps.Keys(old)) {
		if _, kept := aliases[alias]; !kept {
			delete(f.notes, alias)
			s.announce(apiCall(deleteAlias, aliasParameters(name, alias, ""), nil))
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		version, had := old[alias]
		event := createAlias
		switch {
		case had && version == aliases[alias]:
			continue
		case had:
			event = updateAlias
		}
		s.announce(apiCall(event, aliasParameters(name, alias, aliases[alias]), s.alias(f, alias)))
	}
	return true
}

// SetEnvironment makes these the only variables of a function. It says whether there is one of that name, and makes no event: the
// server has no updates of configurations.
func (s *Server) SetEnvironment(name string, variables map[string]string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.functions[name]
	if ok {
		f.Environment = maps.Clone(variables)
	}
	return ok
}

// Remove deletes a function and says whether there was one.
func (s *Server) Remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.functions[name]; !ok {
		return false
	}
	s.remove(name)
	s.announce(apiCall(deleteFunction, map[string]any{"functionName": name}, nil))
	return true
}

// Get returns a function and whether there is one. It is not a recorded call.
func (s *Server) Get(name string) (Function, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.functions[name]
	if !ok {
		return Function{}, false
	}
	out := f.Function
	out.Tags, out.Aliases, out.Environment = maps.Clone(out.Tags), maps.Clone(out.Aliases), maps.Clone(out.Environment)
	return out, true
}

// Names returns the names of all functions, sorted.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names())
}

// names is sorted anew only after functions came or went: 10,000 of them are listed page by page, and a sort for each
// page would be what tests wait for. The caller holds mu and does not change it.
func (s *Server) names() []string {
	if s.sorted == nil {
		s.sorted = slices.Sorted(maps.Keys(s.functions))
	}
	return s.sorted
}

// add stores a copy. The caller holds mu.
func (s *Server) add(f Function) *function {
	f.Role = cmp.Or(f.Role, s.role(f.Name))
	f.Aliases, f.Environment = maps.Clone(f.Aliases), maps.Clone(f.Environment)
	stored := &function{Function: f, modified: time.Now(), gone: map[int]bool{}, notes: map[string]note{}}
	stored.setTags(maps.Clone(f.Tags))
	if _, replaced := s.functions[f.Name]; !replaced {
		s.sorted = nil
	}
	s.functions[f.Name] = stored
	return stored
}

// remove is called with mu held.
func (s *Server) remove(name string) {
	delete(s.functions, name)
	s.sorted = nil
}

func (f *function) setTags(tags map[string]string) {
	f.Tags = tags
	f.tagged = f.tagged || len(tags) > 0
}

// hasVersion says whether a version, by number or "$LATEST", can be used.
func (f *function) hasVersion(version string) bool {
	if version == latest {
		return true
	}
	n, err := strconv.Atoi(version)
	return err == nil && strconv.Itoa(n) == version && n >= 1 && n <= f.Versions && !f.gone[n]
}

// announce queues an event of a method that is not an API call. The caller holds mu.
func (s *Server) announce(c APICall) {
	if s.setterEvents {
		s.emit(c)
	}
}

// emit queues an event; the caller holds mu, so that events queue in the order of the changes.
func (s *Server) emit(c APICall) {
	if s.courier == nil {
		return
	}
	if c.Caller == "" {
		c.Caller = s.caller
	}
	s.courier.post(Place{Partition: s.account.Partition, Region: s.account.Region, Account: s.account.ID}.APIEvent(c))
}

// apiCall is what an event of a successful call is made from.
func apiCall(name string, parameters, response any) APICall {
	return APICall{Name: name, Parameters: parameters, Response: response}
}

// snapshot is the functions as the tagging API shows them while it lags.
type snapshot struct {
	names []string
	tags  map[string]tagState
}

// tagState is what the tagging API knows of a function.
type tagState struct {
	tags   map[string]string // not changed by anybody
	tagged bool              // it has or once had tags
}

// LagTags freezes what the tagging API shows, while Lambda shows every change at once. Settle ends it.
func (s *Server) LagTags() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = &snapshot{names: s.names(), tags: make(map[string]tagState, len(s.functions))} // names are not changed in place
	for name, f := range s.functions {
		s.lag.tags[name] = tagState{f.Tags, f.tagged}
	}
}

// Settle lets the tagging API show what is, as at the start.
func (s *Server) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = nil
}

// taggedNames and tagState are the tagging API's view. The caller holds mu.
func (s *Server) taggedNames() []string {
	if s.lag != nil {
		return s.lag.names
	}
	return s.names()
}

func (s *Server) tagState(name string) tagState {
	if s.lag != nil {
		return s.lag.tags[name]
	}
	if f, ok := s.functions[name]; ok {
		return tagState{f.Tags, f.tagged}
	}
	return tagState{}
}
