# SPDX-License-Identifier: MPL-2.0

# Everything that a function needs in order to call the mesh, but the function: that stays yours. It takes the outputs of this module.

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id

  data_prefix   = trimsuffix(var.data_prefix, "/")
  parameter     = "${local.data_prefix}/${coalesce(var.partition, "default")}/${coalesce(var.namespace, "default")}/${var.function_name}"
  parameter_arn = "arn:${local.partition}:ssm:${local.region}:${local.account}:parameter${local.parameter}"

  environment = {
    CONSUL_MESH_GATEWAY_URI      = join(",", var.mesh_gateway_uris)
    CONSUL_EXTENSION_DATA_PREFIX = local.data_prefix
    CONSUL_SERVICE_UPSTREAMS     = join(",", var.upstreams)
    CONSUL_SERVICE_NAMESPACE     = var.namespace
    CONSUL_SERVICE_PARTITION     = var.partition

    CONSUL_REFRESH_FREQUENCY            = var.settings.refresh_frequency
    CONSUL_EXTENSION_PROXY_TIMEOUT      = var.settings.proxy_timeout
    CONSUL_EXTENSION_BIND_ADDR          = var.settings.bind_addr
    CONSUL_EXTENSION_WARM_CONNECTIONS   = var.settings.warm_connections
    CONSUL_EXTENSION_WARM_MAX_IDLE      = var.settings.warm_max_idle
    CONSUL_EXTENSION_DIAL_TIMEOUT       = var.settings.dial_timeout
    CONSUL_EXTENSION_IDLE_TIMEOUT       = var.settings.idle_timeout
    CONSUL_EXTENSION_MAX_CONNECTION_AGE = var.settings.max_connection_age
    CONSUL_EXTENSION_MAX_CONNECTIONS    = var.settings.max_connections
    CONSUL_EXTENSION_TLS_RESUMPTION     = var.settings.tls_resumption
    CONSUL_EXTENSION_STRICT             = var.settings.strict
    CONSUL_EXTENSION_METRICS            = var.settings.metrics
    LOG_LEVEL                           = var.settings.log_level
    TRACE_ENABLED                       = var.settings.trace_enabled
  }
}

# The function's own document, and the key only for that.
resource "aws_iam_role_policy" "credentials" {
  name = "consul-lambda-${var.function_name}"
  role = var.role_name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "ReadOwnDocument"
        Effect   = "Allow"
        Action   = ["ssm:GetParameter"]
        Resource = local.parameter_arn
      }],
      # alias/aws/ssm lets every principal of the account in through Parameter Store: only a key of yours needs this.
      var.kms_key_arn == "" ? [] : [{
        Sid      = "DecryptOwnDocument"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = var.kms_key_arn
        Condition = { StringEquals = {
          # Of China's two host names it is not documented which one KMS sees; the other one matches nothing.
          "kms:ViaService"                      = distinct(["ssm.${local.region}.amazonaws.com", "ssm.${local.region}.${data.aws_partition.current.dns_suffix}"])
          "kms:EncryptionContext:PARAMETER_ARN" = local.parameter_arn
        } }
      }],
      !local.in_vpc ? [] : [{
        # What Lambda asks of the role of a function in a VPC. The network interfaces are shared, so there is no narrower resource.
        Sid    = "JoinVPC"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = "*"
      }],
    )
  })
}
