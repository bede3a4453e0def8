// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"
	"time"
)

// What the soak concludes rests on this: a fault answers for what it can have done, and for nothing else.
func TestAFaultAnswersForWhatItCanHaveDoneOnly(t *testing.T) {
	t.Parallel()
	base := time.Now()
	at := func(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }
	made := func(began, ended float64) result { return result{began: at(began), ended: at(ended)} }
	under := func(r result, id uint64, service string) result {
		r.id, r.service, r.inStream = id, service, true
		return r
	}
	fault := func(harms harm) injury { return injury{harms: harms, begin: at(10), end: at(12)} }
	one := fault(picked)
	one.victims = map[uint64]bool{7: true}
	some := fault(dialling | streams)
	some.service = spared
	lasting := fault(dialling)
	lasting.end = time.Time{}
	for name, test := range map[string]struct {
		fault injury
		call  result
		want  bool
	}{
		"a dial while the gateway was down":                     {fault(dialling), made(10.5, 10.6), true},
		"a dial that began before and ended in it":              {fault(dialling), made(9.9, 10.1), true},
		"a dial that waited for its timeout":                    {fault(dialling), made(11.9, 12.9), true},
		"a dial that was already over":                          {fault(dialling), made(9, 9.9), false},
		"a dial just after, that waited for its timeout":        {fault(dialling), made(12.1, 13.2), true},
		"a dial well after":                                     {fault(dialling), made(13.1, 13.2), false},
		"a dial that took too long":                             {fault(dialling), made(11.9, 14.1), false},
		"a dial while it is still down":                         {lasting, made(20, 20.1), true},
		"a stream while no one new gets in":                     {fault(dialling), under(made(8, 11), 1, spared), false},
		"a stream that was struck":                              {fault(streams), under(made(8, 11), 1, spared), true},
		"a stream of another call":                              {one, under(made(8, 11), 1, spared), false},
		"the stream of the call":                                {one, under(made(8, 11), 7, spared), true},
		"the stream of the call, long after":                    {one, under(made(8, 13.5), 7, spared), false},
		"another service":                                       {some, under(made(8, 11), 1, banner), false},
		"that service":                                          {some, under(made(8, 11), 1, spared), true},
		"what should not be felt":                               {fault(nothing), made(10.5, 10.6), false},
		"a dial that a freeze stopped":                          {fault(dialling | before), made(9.9, 12.1), true},
		"a dial that began in the freeze, and waited to be had": {fault(dialling | before), made(10.5, 12.1), false},
	} {
		if got := test.fault.explains(test.call); got != test.want {
			t.Errorf("%s: explained %v, want %v", name, got, test.want)
		}
	}
}

func TestATimeIsQuietIfNothingIsBrokenNorWasShortlyBefore(t *testing.T) {
	t.Parallel()
	var l ledger
	if now := time.Now(); !l.quiet(now.Add(-time.Hour), now) {
		t.Error("nothing ever happened, and it was not quiet")
	}
	i := &injury{kind: "a fault"}
	l.strike(i)
	if now := time.Now(); l.quiet(now, now) {
		t.Error("it is quiet while a fault is in force")
	}
	l.heal(i)
	if now := time.Now(); l.quiet(now, now) || !l.quiet(now.Add(near+time.Millisecond), now.Add(time.Hour)) || !l.quiet(i.begin.Add(-time.Hour), i.begin) {
		t.Error("it is not quiet until a second after a fault, and then it is")
	}
}
