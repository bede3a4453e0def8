// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// maxClientHello is how many bytes, record headers included, may be looked at
// to find the server name. It is what Envoy's TLS inspector reads at most.
const maxClientHello = 16 << 10

const (
	recordHeaderLen     = 5
	recordHandshake     = 22
	maxRecord           = 16 << 10 // RFC 8446, 5.1: longer plaintext records are an overflow
	handshakeHeaderLen  = 4
	messageClientHello  = 1
	extensionServerName = 0
	nameTypeHost        = 0
)

// errRecord is errNotClientHello for what is wrong below the message.
var errRecord = fmt.Errorf("%w: bad record", errNotClientHello)

// clientHelloServerName returns the server name that the ClientHello at the
// beginning of b asks for; "" if it asks for none. The ClientHello may be cut
// into any number of records, and anything may follow it.
//
// A need above zero means that b ends too early, and that at least need more
// bytes are wanted; name and err say nothing then. The error wraps
// [errNotClientHello] or [errHelloTooLong] and comes as soon as b shows it.
//
// Strict means: every length must add up, nothing may be left over inside the
// message, and no extension or host name may come twice.
func clientHelloServerName(b []byte) (name string, need int, err error) {
	msg, need, err := clientHelloMessage(b)
	if need > 0 || err != nil {
		return "", need, err
	}
	name, ok := helloServerName(msg)
	if !ok {
		return "", 0, fmt.Errorf("%w: bad message", errNotClientHello)
	}
	return name, 0, nil
}

// clientHelloMessage returns the body of the handshake message that b begins
// with, put together from its records.
func clientHelloMessage(b []byte) (body []byte, need int, err error) {
	var msg []byte
	for rest := b; ; {
		payload, need, err := handshakeRecord(rest)
		if err != nil {
			return nil, 0, err
		}
		msg = append(msg, payload...)
		if len(msg) > 0 && msg[0] != messageClientHello {
			return nil, 0, fmt.Errorf("%w: handshake message %d", errNotClientHello, msg[0])
		}
		if len(msg) >= handshakeHeaderLen {
			end := handshakeHeaderLen + (int(msg[1])<<16 | int(msg[2])<<8 | int(msg[3]))
			if end > maxClientHello {
				return nil, 0, fmt.Errorf("%w: message of %d bytes", errHelloTooLong, end)
			}
			if need == 0 && len(msg) >= end {
				return msg[handshakeHeaderLen:end], 0, nil
			}
		}
		if need > 0 {
			if len(b)+need > maxClientHello {
				return nil, 0, fmt.Errorf("%w: incomplete after %d bytes", errHelloTooLong, len(b))
			}
			return nil, need, nil
		}
		rest = rest[recordHeaderLen+len(payload):]
	}
}

// handshakeRecord returns what b holds of the payload of the record that it
// begins with, and how many bytes are missing from it; from its header, as
// long as that is incomplete.
func handshakeRecord(b []byte) (payload []byte, need int, err error) {
	if len(b) > 0 && b[0] != recordHandshake {
		return nil, 0, fmt.Errorf("%w: record type %d", errRecord, b[0])
	}
	// RFC 5246, E.1: a server takes any version {03,XX} on a ClientHello.
	if len(b) > 1 && b[1] != 3 {
		return nil, 0, fmt.Errorf("%w: record version %d", errRecord, b[1])
	}
	if len(b) < recordHeaderLen {
		return nil, recordHeaderLen - len(b), nil
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if n == 0 || n > maxRecord {
		return nil, 0, fmt.Errorf("%w: record of %d bytes", errRecord, n)
	}
	payload = b[recordHeaderLen:]
	if len(payload) < n {
		return payload, n - len(payload), nil
	}
	return payload[:n], 0, nil
}

// helloServerName reads the body of a ClientHello. ok is false if it is malformed.
func helloServerName(body []byte) (name string, ok bool) {
	r := wire{b: body, ok: true}
	r.take(2 + 32)               // legacy_version, random
	r.vector(1)                  // legacy_session_id
	if len(r.vector(2))%2 != 0 { // cipher_suites
		return "", false
	}
	r.vector(1) // legacy_compression_methods
	if r.ok && len(r.b) == 0 {
		return "", true // extensions are optional
	}
	extensions := wire{b: r.vector(2), ok: r.ok && len(r.b) == 0}
	seen := make(map[int]bool)
	for extensions.more() {
		kind := extensions.number(2)
		data := extensions.vector(2)
		if seen[kind] {
			return "", false
		}
		seen[kind] = true
		if kind == extensionServerName && extensions.ok {
			if name, ok = serverNameExtension(data); !ok {
				return "", false
			}
		}
	}
	return name, extensions.ok
}

// serverNameExtension reads a ServerNameList (RFC 6066, 3): at most one name
// of the type host_name, never empty, without a trailing dot.
func serverNameExtension(data []byte) (host string, ok bool) {
	r := wire{b: data, ok: true}
	list := wire{b: r.vector(2), ok: r.ok && len(r.b) == 0}
	if len(list.b) == 0 {
		return "", false
	}
	for list.more() {
		kind := list.number(1)
		name := string(list.vector(2))
		if !list.ok || name == "" {
			return "", false
		}
		if kind != nameTypeHost {
			continue
		}
		if host != "" || strings.HasSuffix(name, ".") {
			return "", false
		}
		host = name
	}
	return host, list.ok
}

// wire reads big-endian fields off the front of b. Once a read goes beyond
// the end, ok is false and every further read gives nothing.
type wire struct {
	b  []byte
	ok bool
}

// more reports whether there is something left, and nothing went wrong so far.
func (w *wire) more() bool { return w.ok && len(w.b) > 0 }

// take returns the next n bytes.
func (w *wire) take(n int) []byte {
	if !w.ok || n > len(w.b) {
		w.ok = false
		return nil
	}
	head := w.b[:n]
	w.b = w.b[n:]
	return head
}

// number returns the next field of size bytes.
func (w *wire) number(size int) int {
	v := 0
	for _, c := range w.take(size) {
		v = v<<8 | int(c)
	}
	return v
}

// vector returns the bytes behind a length prefix of size bytes.
func (w *wire) vector(size int) []byte { return w.take(w.number(size)) }
