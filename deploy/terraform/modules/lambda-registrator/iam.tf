# SPDX-License-Identifier: MPL-2.0

# What the registrator may do, and nothing else. tools/tfcheck holds each action, with what it is on, against the calls in the code,
# and the copy in docs/security.md against this.

locals {
  parameter_arn = "arn:${local.partition}:ssm:${local.region}:${local.account}:parameter"

  # A name may be written with or without the slash that its ARN has in any case.
  secrets      = [for path in [var.consul_ca_cert_path, var.consul_http_token_path] : path if path != ""]
  secret_arns  = [for path in local.secrets : "${local.parameter_arn}/${trimprefix(path, "/")}"]
  document_arn = "${local.parameter_arn}${local.data_prefix}/*"

  # Of China's two host names it is not documented which one KMS sees; the other one matches nothing.
  via_parameter_store = distinct(["ssm.${local.region}.amazonaws.com", "ssm.${local.region}.${data.aws_partition.current.dns_suffix}"])

  function_arns = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:*"
  own_arn       = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}"

  statements = concat(
    [
      {
        # Neither call can be narrowed to a resource.
        Sid      = "FindFunctions"
        Effect   = "Allow"
        Action   = ["lambda:ListFunctions", "tag:GetResources"]
        Resource = "*"
      },
      {
        # Without ListTags, GetFunction succeeds and says nothing of tags.
        Sid      = "ReadFunctions"
        Effect   = "Allow"
        Action   = ["lambda:GetFunction", "lambda:ListTags"]
        Resource = local.function_arns
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.registration.arn}:*"
      },
    ],
    length(local.secret_arns) == 0 ? [] : [{
      Sid      = "ReadConsulSecrets"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = local.secret_arns
    }],
    length(local.secret_arns) == 0 || length(var.consul_secrets_kms_key_arns) == 0 ? [] : [{
      Sid      = "DecryptConsulSecrets"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = var.consul_secrets_kms_key_arns
      Condition = { StringEquals = {
        "kms:ViaService"                      = local.via_parameter_store
        "kms:EncryptionContext:PARAMETER_ARN" = local.secret_arns
      } }
    }],
    [for statement in [
      {
        # Not GetParameter: whether a document is as it was left is seen in its version, which the list below has.
        Sid      = "KeepDocuments"
        Effect   = "Allow"
        Action   = ["ssm:PutParameter", "ssm:DeleteParameter"]
        Resource = local.document_arn
      },
      {
        # AWS checks this call against every parameter of the account, whatever it is filtered by: narrowed to the prefix, it
        # would be refused. It returns names and versions, no values.
        Sid      = "ListDocuments"
        Effect   = "Allow"
        Action   = ["ssm:DescribeParameters"]
        Resource = "*"
      },
    ] : statement if local.data_prefix != ""],
    # The account's own alias/aws/ssm lets every principal in through Parameter Store: only a key of yours needs this.
    local.data_prefix == "" || var.kms_key_arn == "" ? [] : [{
      Sid    = "EncryptDocuments"
      Effect = "Allow"
      # Encrypt is for the Standard tier, GenerateDataKey for the Advanced one. A write, one over what is there too, decrypts nothing.
      Action   = ["kms:Encrypt", "kms:GenerateDataKey"]
      Resource = var.kms_key_arn
      Condition = {
        StringEquals = { "kms:ViaService" = local.via_parameter_store }
        StringLike   = { "kms:EncryptionContext:PARAMETER_ARN" = local.document_arn }
      }
    }],
    [for statement in [
      {
        # What Lambda asks of the role of a function in a VPC. The network interfaces are shared, so there is no narrower resource.
        Sid      = "JoinVPC"
        Effect   = "Allow"
        Action   = local.network_actions
        Resource = "*"
      },
      {
        # Lambda needs these, the code does not: this is AWS's own condition for calls that come from within the function.
        Sid       = "KeepCodeOffTheNetworkAPI"
        Effect    = "Deny"
        Action    = local.network_actions
        Resource  = "*"
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = local.own_arn } }
      },
    ] : statement if local.in_vpc],
    [{
      Sid      = "ReportFailures"
      Effect   = "Allow"
      Action   = [local.failures_to_sns ? "sns:Publish" : "sqs:SendMessage"]
      Resource = local.failure_destination
    }],
  )

  network_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]
}

resource "aws_iam_role" "registration" {
  name = var.name
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_policy" "policy" {
  name = "${var.name}-policy"
  path = "/"
  tags = var.tags
  # The predecessor's words: another description would replace the policy.
  description = "IAM policy for consul registration service"

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements
  })
}

resource "aws_iam_role_policy_attachment" "lambda_logs" {
  role       = aws_iam_role.registration.name
  policy_arn = aws_iam_policy.policy.arn
}
