# SPDX-License-Identifier: MPL-2.0

# The function needs a way to the mesh gateways and one to Parameter Store. The second is the one that is forgotten: in a VPC without
# NAT and without an endpoint, every read of its credentials times out, and every connection is reset.

locals {
  in_vpc = var.vpc != null

  # "gateway.example.com:8443" or "[fd00::1]:8443"
  gateway_ports = toset([for uri in var.mesh_gateway_uris : regex("[0-9]+$", uri)])

  own_endpoint = local.in_vpc ? var.vpc.create_ssm_endpoint : false
}

resource "aws_security_group" "function" {
  count = local.in_vpc ? 1 : 0

  name_prefix = "${var.function_name}-mesh-"
  description = "Ways of ${var.function_name} to the mesh gateways and to Parameter Store"
  vpc_id      = var.vpc.id
  tags        = var.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  for_each = local.in_vpc ? { for pair in setproduct(local.gateway_ports, var.vpc.mesh_gateway_cidrs) : join(" ", pair) => pair } : {}

  security_group_id = aws_security_group.function[0].id
  description       = "To the mesh gateways"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value[0])
  to_port           = tonumber(each.value[0])
  cidr_ipv4         = each.value[1]
  tags              = var.tags
}

# Through NAT the addresses of AWS's APIs are not known; to an endpoint of our own, its group is.
resource "aws_vpc_security_group_egress_rule" "parameter_store" {
  count = local.in_vpc ? 1 : 0

  security_group_id            = aws_security_group.function[0].id
  description                  = "To Parameter Store"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  cidr_ipv4                    = local.own_endpoint ? null : "0.0.0.0/0"
  referenced_security_group_id = local.own_endpoint ? aws_security_group.endpoint[0].id : null
  tags                         = var.tags
}

resource "aws_security_group" "endpoint" {
  count = local.own_endpoint ? 1 : 0

  name_prefix = "${var.function_name}-ssm-"
  description = "The way of ${var.function_name} into the endpoint of Parameter Store"
  vpc_id      = var.vpc.id
  tags        = var.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoint" {
  count = local.own_endpoint ? 1 : 0

  security_group_id            = aws_security_group.endpoint[0].id
  description                  = "From ${var.function_name}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.function[0].id
  tags                         = var.tags
}

# Parameter Store decrypts by itself: no endpoint of KMS is needed. A VPC can have one endpoint of this service with private DNS only,
# for all of its functions.
resource "aws_vpc_endpoint" "parameter_store" {
  count = local.own_endpoint ? 1 : 0

  vpc_id              = var.vpc.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${local.region}.ssm" # in China too
  subnet_ids          = var.vpc.subnet_ids
  security_group_ids  = [aws_security_group.endpoint[0].id]
  private_dns_enabled = true
  tags                = var.tags
}
