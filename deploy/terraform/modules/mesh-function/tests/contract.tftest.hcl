# SPDX-License-Identifier: MPL-2.0

mock_provider "aws" {
  source = "../../testdata/mocks"
}

variables {
  function_name     = "checkout"
  role_name         = "checkout-role"
  layer_arn         = "arn:aws:lambda:us-east-1:123456789012:layer:consul-lambda-extension-x86_64:7"
  mesh_gateway_uris = ["gateway.example.com:8443"]
  data_prefix       = "/mesh"
}

run "the_least_that_a_function_needs" {
  assert {
    condition = output.environment == {
      CONSUL_MESH_GATEWAY_URI      = "gateway.example.com:8443"
      CONSUL_EXTENSION_DATA_PREFIX = "/mesh"
    }
    error_message = jsonencode(output.environment)
  }
  assert {
    condition     = output.layers == [var.layer_arn]
    error_message = "The layer is missing."
  }
  assert {
    condition     = output.tags == { "serverless.consul.hashicorp.com/v1alpha1/lambda/enabled" = "true" }
    error_message = jsonencode(output.tags)
  }
  assert {
    condition     = output.vpc_config == null && length(aws_security_group.function) == 0 && length(aws_vpc_endpoint.parameter_store) == 0
    error_message = "There is a network for a function outside of any VPC."
  }
  # Its own parameter, and no key: alias/aws/ssm needs none.
  assert {
    condition = jsondecode(aws_iam_role_policy.credentials.policy).Statement == [{
      Sid      = "ReadOwnDocument"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = "arn:aws:ssm:us-east-1:123456789012:parameter/mesh/default/default/checkout"
    }]
    error_message = aws_iam_role_policy.credentials.policy
  }
  assert {
    condition     = aws_iam_role_policy.credentials.role == "checkout-role" && output.policy_id == aws_iam_role_policy.credentials.id
    error_message = "Another role gets the policy."
  }
}

run "everything_reaches_the_extension" {
  variables {
    mesh_gateway_uris = ["gateway-a.example.com:8443", "[fd00::1]:8444"]
    data_prefix       = "/teams/mesh/"
    upstreams         = ["web:1234", "api.svc.east.peer:8080"]
    namespace         = "shop"
    partition         = "eu"
    service_tags      = { invocation-mode = "ASYNCHRONOUS" }
    tags              = { team = "net" }
    settings = {
      refresh_frequency  = "1m"
      proxy_timeout      = "2s"
      bind_addr          = "127.0.0.1"
      warm_connections   = "1,db=0"
      warm_max_idle      = "30s"
      dial_timeout       = "1s"
      idle_timeout       = "5m"
      max_connection_age = "1h"
      max_connections    = 100
      tls_resumption     = false
      strict             = true
      metrics            = "emf"
      log_level          = "debug"
      trace_enabled      = true
    }
  }

  assert {
    condition = output.environment == {
      CONSUL_MESH_GATEWAY_URI             = "gateway-a.example.com:8443,[fd00::1]:8444"
      CONSUL_EXTENSION_DATA_PREFIX        = "/teams/mesh"
      CONSUL_SERVICE_UPSTREAMS            = "web:1234,api.svc.east.peer:8080"
      CONSUL_SERVICE_NAMESPACE            = "shop"
      CONSUL_SERVICE_PARTITION            = "eu"
      CONSUL_REFRESH_FREQUENCY            = "1m"
      CONSUL_EXTENSION_PROXY_TIMEOUT      = "2s"
      CONSUL_EXTENSION_BIND_ADDR          = "127.0.0.1"
      CONSUL_EXTENSION_WARM_CONNECTIONS   = "1,db=0"
      CONSUL_EXTENSION_WARM_MAX_IDLE      = "30s"
      CONSUL_EXTENSION_DIAL_TIMEOUT       = "1s"
      CONSUL_EXTENSION_IDLE_TIMEOUT       = "5m"
      CONSUL_EXTENSION_MAX_CONNECTION_AGE = "1h"
      CONSUL_EXTENSION_MAX_CONNECTIONS    = "100"
      CONSUL_EXTENSION_TLS_RESUMPTION     = "false"
      CONSUL_EXTENSION_STRICT             = "true"
      CONSUL_EXTENSION_METRICS            = "emf"
      LOG_LEVEL                           = "debug"
      TRACE_ENABLED                       = "true"
    }
    error_message = jsonencode(output.environment)
  }
  assert {
    condition = output.tags == {
      "serverless.consul.hashicorp.com/v1alpha1/lambda/enabled"         = "true"
      "serverless.consul.hashicorp.com/v1alpha1/lambda/invocation-mode" = "ASYNCHRONOUS"
      "serverless.consul.hashicorp.com/v1alpha1/lambda/namespace"       = "shop"
      "serverless.consul.hashicorp.com/v1alpha1/lambda/partition"       = "eu"
    }
    error_message = jsonencode(output.tags)
  }
  assert {
    condition     = output.parameter_name == "/teams/mesh/eu/shop/checkout"
    error_message = output.parameter_name
  }
}

run "a_key_for_its_own_parameter_only" {
  variables {
    kms_key_arn = "arn:aws-cn:kms:cn-north-1:123456789012:key/documents"
  }
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }
  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }

  assert {
    condition = jsonencode([for s in jsondecode(aws_iam_role_policy.credentials.policy).Statement : s if s.Sid == "DecryptOwnDocument"]) == jsonencode([{
      Sid      = "DecryptOwnDocument"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = "arn:aws-cn:kms:cn-north-1:123456789012:key/documents"
      Condition = { StringEquals = {
        "kms:ViaService"                      = ["ssm.cn-north-1.amazonaws.com", "ssm.cn-north-1.amazonaws.com.cn"]
        "kms:EncryptionContext:PARAMETER_ARN" = "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/mesh/default/default/checkout"
      } }
    }])
    error_message = aws_iam_role_policy.credentials.policy
  }
  assert {
    condition     = !strcontains(aws_iam_role_policy.credentials.policy, "arn:aws:")
    error_message = aws_iam_role_policy.credentials.policy
  }
}

run "in_a_vpc_with_nat" {
  variables {
    mesh_gateway_uris = ["a.example.com:8443", "b.example.com:8443", "c.example.com:443"]
    tags              = { team = "net" }
    vpc               = { id = "vpc-1", subnet_ids = ["subnet-1"], mesh_gateway_cidrs = ["10.0.0.0/16", "10.1.0.0/16"], create_ssm_endpoint = false }
  }

  assert {
    condition     = output.vpc_config.subnet_ids == tolist(["subnet-1"]) && output.vpc_config.security_group_ids == [aws_security_group.function[0].id]
    error_message = jsonencode(output.vpc_config)
  }
  assert {
    condition     = aws_security_group.function[0].vpc_id == "vpc-1" && aws_security_group.function[0].tags == tomap({ team = "net" })
    error_message = "The security group is in another VPC, or not tagged."
  }
  assert {
    condition = toset([for rule in aws_vpc_security_group_egress_rule.gateway : "${rule.from_port}-${rule.to_port} ${rule.ip_protocol} ${rule.cidr_ipv4}"]) == toset([
      "8443-8443 tcp 10.0.0.0/16", "8443-8443 tcp 10.1.0.0/16", "443-443 tcp 10.0.0.0/16", "443-443 tcp 10.1.0.0/16",
    ])
    error_message = "The ways to the gateways are not those of their ports and addresses."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.parameter_store[0].cidr_ipv4 == "0.0.0.0/0" && aws_vpc_security_group_egress_rule.parameter_store[0].to_port == 443
    error_message = "Through NAT there is no way to Parameter Store."
  }
  assert {
    condition     = length(aws_vpc_endpoint.parameter_store) == 0
    error_message = "An endpoint is created that nobody wants."
  }
  assert {
    condition     = contains([for s in jsondecode(aws_iam_role_policy.credentials.policy).Statement : s.Sid], "JoinVPC")
    error_message = aws_iam_role_policy.credentials.policy
  }
}

run "in_a_vpc_with_an_endpoint" {
  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1"], mesh_gateway_cidrs = ["10.0.0.0/16"], create_ssm_endpoint = true }
  }

  assert {
    condition = (aws_vpc_endpoint.parameter_store[0].service_name == "com.amazonaws.us-east-1.ssm" && aws_vpc_endpoint.parameter_store[0].private_dns_enabled &&
      aws_vpc_endpoint.parameter_store[0].vpc_endpoint_type == "Interface" &&
    aws_vpc_endpoint.parameter_store[0].security_group_ids == toset([aws_security_group.endpoint[0].id]))
    error_message = "The endpoint is not one that the SDK finds by itself."
  }
  assert {
    condition = (aws_vpc_security_group_egress_rule.parameter_store[0].referenced_security_group_id == aws_security_group.endpoint[0].id &&
      aws_vpc_security_group_egress_rule.parameter_store[0].cidr_ipv4 == null &&
    aws_vpc_security_group_ingress_rule.endpoint[0].referenced_security_group_id == aws_security_group.function[0].id)
    error_message = "The function and the endpoint do not let each other through."
  }
}

run "in_a_vpc_the_way_to_parameter_store_must_be_said" {
  command = plan
  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1"], mesh_gateway_cidrs = ["10.0.0.0/16"], create_ssm_endpoint = null }
  }
  expect_failures = [var.vpc]
}

run "values_that_cannot_be" {
  command = plan
  variables {
    mesh_gateway_uris = ["https://gateway.example.com:8443"]
    data_prefix       = "mesh"
    kms_key_arn       = "alias/mine"
    vpc               = { id = "vpc-1", subnet_ids = [], mesh_gateway_cidrs = ["10.0.0.0/16"], create_ssm_endpoint = false }
  }
  expect_failures = [var.mesh_gateway_uris, var.data_prefix, var.kms_key_arn, var.vpc]
}
