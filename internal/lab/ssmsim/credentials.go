// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

// Credentials are what the container credentials endpoint hands out.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	// Expires is when they end. Zero: they do not say.
	Expires time.Time
}

// A CredentialServer answers GET /v2/credentials as the credentials endpoint of
// a container or of a function restored from a snapshot does.
type CredentialServer struct {
	http *simhttp.Server

	mu    sync.Mutex
	token string
	creds Credentials
	count int
}

// StartCredentials serves creds on loopback to requests whose Authorization
// header is token (to all if token is ""), until Close.
func StartCredentials(token string, creds Credentials) (*CredentialServer, error) {
	srv, err := simhttp.Listen("")
	if err != nil {
		return nil, fmt.Errorf("starting credentials endpoint: %w", err)
	}
	s := &CredentialServer{http: srv, token: token, creds: creds}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/credentials", s.serveCredentials)
	srv.Serve(mux)
	return s, nil
}

// URL is the endpoint, for AWS_CONTAINER_CREDENTIALS_FULL_URI.
func (s *CredentialServer) URL() string {
	return "http://" + s.http.Addr() + "/v2/credentials"
}

// Close ends all connections and waits for the server's goroutines.
func (s *CredentialServer) Close() { s.http.Close() }

// Set replaces the token and the credentials.
func (s *CredentialServer) Set(token string, creds Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.creds = token, creds
}

// Count is the number of requests so far, refused ones included.
func (s *CredentialServer) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *CredentialServer) serveCredentials(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.count++
	refused := s.token != "" && r.Header.Get("Authorization") != s.token
	c := s.creds
	s.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	if refused {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"code":"AccessDenied","message":"the authorization token is not valid"}`)
		return
	}
	out := struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      string `json:",omitempty"`
	}{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, ""}
	if !c.Expires.IsZero() {
		out.Expiration = c.Expires.UTC().Format(time.RFC3339)
	}
	_ = json.NewEncoder(w).Encode(out) // the client may be gone; there is nobody to tell
}
