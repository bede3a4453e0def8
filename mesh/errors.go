// SPDX-License-Identifier: MPL-2.0

package mesh

import "errors"

// Each error of this package wraps the sentinel of what could not be built. The
// text is one line that names the value at fault and what is accepted; that of
// ErrDocument names the field instead, never its content.
var (
	// ErrService is wrapped by every error of NewService and ParseService.
	ErrService = errors.New("mesh: invalid service")

	// ErrParameterPath is wrapped by every error of Service.ParameterPath.
	ErrParameterPath = errors.New("mesh: invalid parameter path")

	// ErrUpstream is wrapped by every error of ParseUpstream and ParseUpstreams.
	ErrUpstream = errors.New("mesh: invalid upstream")

	// ErrSNI is wrapped by every error of ServiceSNI, PeeredSNI and ParseSNI.
	ErrSNI = errors.New("mesh: invalid server name")

	// ErrID is wrapped by every error of ServiceID, GatewayID and ParseID.
	ErrID = errors.New("mesh: invalid SPIFFE ID")

	// ErrDocument is wrapped by every error of ParseDocument and of a Document's
	// methods.
	ErrDocument = errors.New("mesh: invalid credential document")
)
